"""The policy of a gate: a rule for each metric, from a TOML file or as the studies declare it."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import replace

from illama_eval.compare.change import Change
from illama_eval.results import ResultError

Severity: TypeAlias = Literal["fail", "warn", "ignore"]
Leniency: TypeAlias = Literal["allow", "warn", "fail"]
Direction: TypeAlias = Literal["higher", "lower"]
Loss: TypeAlias = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
T = TypeVar("T")

ANY = "*"
"""The name of every metric of a study that has no rule of its own."""


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one metric is judged; None means: as its study declares it."""

    better: Direction | None = None
    absolute: Loss | None = None
    """Loss that passes, in the metric's own unit; fractions, never percent."""
    relative: Loss = 0.0
    """Loss that passes, as a share of the baseline's value; the larger of both counts."""
    significant: bool = True
    """Whether only an interval wholly beyond the tolerance fails; else the estimate decides."""
    severity: Severity | None = None
    """None: `ignore` for metrics that repeat another or have no better side, else `fail`."""

    def settled(self, change: Change) -> Rule:
        """Return the rule with what the metric's study declares in place of None."""
        better = self.better or change.better
        severity = self.severity or ("fail" if change.in_family else "ignore")
        absolute = change.tolerance if self.absolute is None else self.absolute
        return replace(self, better=better, absolute=absolute, severity=severity)

    def margin(self, baseline: float) -> float:
        """Return the loss that passes, given the baseline's value."""
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


def read_policy(path: Path) -> Policy:
    """Return the policy in a TOML file.

    `inconclusive`, `new` and `removed` are keys at the top; a table `[metrics.STUDY.METRIC]` holds
    fields of `Rule`, with severity `fail` by default, and `[metrics.STUDY."*"]` those of a study's
    other metrics.

    Raises:
        ResultError: the file is missing or not TOML, or an unknown key or a wrong value is in it.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
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
        metric: _convert(f"{where}.{metric}", table, Rule)
        for metric, table in _convert(where, tables, dict[str, Any]).items()
    }
    return {
        metric: rule if metric == ANY or rule.severity else replace(rule, severity="fail")
        for metric, rule in rules.items()
    }


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
