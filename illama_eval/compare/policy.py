"""The policy of a gate: a rule for each metric, from a TOML file or as the studies declare it."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import replace

from illama_eval.compare.change import Change
from illama_eval.results import ResultError
from illama_eval.units import unit_of

Severity: TypeAlias = Literal["fail", "warn", "ignore"]
Leniency: TypeAlias = Literal["allow", "warn", "fail"]
Direction: TypeAlias = Literal["higher", "lower"]
Loss: TypeAlias = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
T = TypeVar("T")

ANY = "*"
"""The name of every metric of a study that has no rule of its own."""

POINTS = "pp"
"""The unit of percent points, in which a policy may give the loss of a fraction."""

_AMOUNT = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+) *(?P<unit>[a-zA-Z%][a-zA-Z% ]*)")


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one metric is judged; None means: as its study declares it."""

    better: Direction | None = None
    absolute: Loss | str | None = None
    """Loss that passes: a number in the metric's own unit (a fraction, never percent), or a text
    that names the unit, such as `0.5 pp` or `0.01 nats`."""
    relative: Share = 0.0
    """Loss that passes, as a share of the baseline's value; the larger of both counts."""
    significant: bool = True
    """Whether only an interval wholly beyond the tolerance fails; else the estimate decides."""
    severity: Severity | None = None
    """None: `ignore` for metrics that repeat another or have no better side, else `fail`."""

    def settled(self, change: Change) -> Rule:
        """Return the rule with what the metric's study declares in place of None.

        Raises:
            ResultError: the loss that passes has another unit than the metric, or is so large that
                everything passes.
        """
        better = self.better or change.better
        severity = self.severity or ("fail" if change.in_family else "ignore")
        absolute: float | str | None = change.tolerance
        if self.absolute is not None and severity != "ignore":
            absolute = _in_unit(self.absolute, change)
        return replace(self, better=better, absolute=absolute, severity=severity)

    def margin(self, baseline: float) -> float:
        """Return the loss that passes, given the baseline's value; of a settled rule."""
        assert not isinstance(self.absolute, str), "the rule is not settled"
        return max(self.absolute or 0.0, self.relative * abs(baseline))


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules, and what happens to metrics without a verdict."""

    metrics: Mapping[str, Mapping[str, Rule]] = {}
    """Study -> metric, or `*` -> rule."""
    inconclusive: Literal["warn", "fail"] = "warn"
    new: Leniency = "allow"
    """Metrics that the baseline lacks."""
    removed: Leniency = "fail"
    """Metrics that the run lacks."""

    def rule(self, study: str, metric: str) -> Rule:
        """Return the metric's rule, before what its study declares."""
        rules = self.metrics.get(study, {})
        return rules.get(metric) or rules.get(ANY) or Rule()

    @property
    def named(self) -> list[tuple[str, str]]:
        """Study and metric of the rules that name one metric and do not ignore it."""
        return [
            (study, metric)
            for study, rules in self.metrics.items()
            for metric, rule in rules.items()
            if metric != ANY and rule.severity != "ignore"
        ]

    @property
    def studies(self) -> list[str]:
        """Studies with a rule for every metric that has none of its own."""
        return [study for study, rules in self.metrics.items() if ANY in rules]


def read_policy(path: Path) -> Policy:
    """Return the policy in a TOML file.

    `inconclusive`, `new` and `removed` are keys at the top; a table `[metrics.STUDY.METRIC]` holds
    fields of `Rule`, with severity `fail` by default, and `[metrics.STUDY."*"]` those of a study's
    other metrics.

    Raises:
        ResultError: the file is missing or not TOML, or an unknown key or a wrong value is in it.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        metrics = _convert("metrics", given.get("metrics", {}), dict[str, Any])
        rules = {study: _read_rules(f"metrics.{study}", each) for study, each in metrics.items()}
        return _convert("", {**given, "metrics": rules}, Policy)
    except OSError as problem:
        raise ResultError(f"{path}: cannot be read ({problem.strerror})") from problem
    except ValueError as problem:
        raise ResultError(f"{path}: {problem}") from problem


def _read_rules(where: str, tables: object) -> dict[str, Rule]:
    """Return the rules of one study by metric; a rule that names a metric gates it."""
    rules = {
        metric: _read_rule(f"{where}.{metric}", table)
        for metric, table in _convert(where, tables, dict[str, Any]).items()
    }
    return {
        metric: rule if metric == ANY or rule.severity else replace(rule, severity="fail")
        for metric, rule in rules.items()
    }


def _read_rule(where: str, table: object) -> Rule:
    """Return one rule.

    Raises:
        ValueError: a key or a value does not fit; names it.
    """
    rule = _convert(where, table, Rule)
    if isinstance(rule.absolute, str):
        try:
            _read_amount(rule.absolute)
        except ValueError as problem:
            raise ValueError(f"{where}.absolute: {problem}") from problem
    return rule


def _in_unit(given: float | str, change: Change) -> float:
    """Return a loss in the unit of the metric.

    Raises:
        ResultError: it has another unit, or no difference of the metric can be larger.
    """
    number, unit = (given, change.unit) if isinstance(given, float) else _read_amount(given)
    if (unit, change.unit) == (POINTS, "fraction"):
        number, unit = number / 100, change.unit
    where = f"policy: metrics.{change.study}.{change.metric}.absolute = {given!r}"
    write = '"0.5 pp" or 0.005' if change.unit == "fraction" else f'"0.01 {change.unit}" or 0.01'
    if unit != change.unit:
        raise ResultError(f"{where}: the unit of the metric is {change.unit}; write {write}")
    if number >= unit_of(unit).width:
        raise ResultError(
            f"{where}: the metric is a {unit}, and no loss is that large; write {write}"
        )
    return number


def _read_amount(text: str) -> tuple[float, str]:
    """Return number and unit of a text such as `0.5 pp`.

    Raises:
        ValueError: it is not of this form.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'{text!r} is not a loss; write a number, or one with its unit: "0.5 pp"')
    return float(found["number"]), found["unit"]


def _convert(where: str, given: object, kind: type[T]) -> T:
    """Return the values as this type.

    Raises:
        ValueError: a key or a value does not fit; names it.
    """
    try:
        return convert(given, kind)
    except ValidationError as problem:
        fault, _, path = str(problem).partition(" - at ")
        name = f"{where}{path.strip('`').removeprefix('$')}".lstrip(".")
        raise ValueError(f"{name}: {fault}" if name else fault) from problem
