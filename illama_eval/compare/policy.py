"""What a gate lets pass: a rule for each metric, from a TOML file or as the studies declare it."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from illama_eval.compare.change import Change
from illama_eval.results import ResultError

Severity = Literal["fail", "warn", "ignore"]
Leniency = Literal["allow", "warn", "fail"]
Direction = Literal["higher", "lower"]

ANY = "*"
"""Stands in a policy for every metric of a study."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one metric is judged; None means: as its study declares it."""

    better: Direction | None = None
    absolute: float | None = None
    """Loss that passes, in the metric's own unit; fractions, never percent."""
    relative: float = 0.0
    """Loss that passes, as a share of the baseline's value; the larger of both counts."""
    significant: bool = True
    """Whether only an interval wholly beyond the tolerance fails; else the estimate decides."""
    severity: Severity | None = None
    """None: `ignore` for metrics that repeat another or have no better side, else `fail`."""

    def settled(self, change: Change) -> Rule:
        """Return the rule with what the metric's study declares in place of None."""
        better = self.better or change.better
        severity = self.severity or ("fail" if change.counts else "ignore")
        absolute = change.tolerance if self.absolute is None else self.absolute
        return replace(self, better=better, absolute=absolute, severity=severity)

    def margin(self, baseline: float) -> float:
        """Return the loss that passes, given the baseline's value."""
        return max(self.absolute or 0.0, self.relative * abs(baseline))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules, and what happens to metrics without a verdict."""

    rules: Mapping[tuple[str, str], Rule] = field(default_factory=dict)
    """By study and metric, or study and `*`."""
    inconclusive: Literal["warn", "fail"] = "warn"
    new: Leniency = "allow"
    """Metrics that the baseline lacks."""
    removed: Leniency = "fail"
    """Metrics that the run lacks."""

    def rule(self, study: str, metric: str) -> Rule:
        """Return the metric's rule, before what its study declares."""
        return self.rules.get((study, metric)) or self.rules.get((study, ANY)) or Rule()

    @property
    def named(self) -> list[tuple[str, str]]:
        """Study and metric of the rules that name one metric and do not ignore it."""
        return [
            key for key, rule in self.rules.items() if key[1] != ANY and rule.severity != "ignore"
        ]


def read_policy(path: Path) -> Policy:
    """Return the policy in a TOML file.

    `inconclusive`, `new` and `removed` stand at the top; a table `[metrics.STUDY.METRIC]` holds
    the fields of `Rule`, `fail` unless it says otherwise, and `[metrics.STUDY."*"]` those of a
    study's other metrics.

    Raises:
        ResultError: the file is missing, no TOML, or has an unknown key or value, which is named.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        metrics = _table("metrics", given.pop("metrics", {}))
        rules = {
            (study, metric): _read_rule(study, metric, table)
            for study, tables in metrics.items()
            for metric, table in _table(f"metrics.{study}", tables).items()
        }
        return Policy(rules=rules, **_checked("", given, _TOP))
    except OSError as problem:
        raise ResultError(f"{path}: cannot be read ({problem.strerror})") from problem
    except ValueError as problem:
        raise ResultError(f"{path}: {problem}") from problem


def _read_rule(study: str, metric: str, table: object) -> Rule:
    """Return a rule; one that names a metric gates it."""
    rule = Rule(**_checked(f"metrics.{study}.{metric}", table, _RULE))
    return replace(rule, severity="fail") if metric != ANY and rule.severity is None else rule


_TOP: Mapping[str, tuple[object, ...] | type] = {
    "inconclusive": ("warn", "fail"),
    "new": get_args(Leniency),
    "removed": get_args(Leniency),
}
_RULE: Mapping[str, tuple[object, ...] | type] = {
    "better": get_args(Direction),
    "absolute": float,
    "relative": float,
    "significant": (True, False),
    "severity": get_args(Severity),
}
"""Keys, and the values they may have; `float` is any number from 0."""


def _checked(where: str, given: object, known: Mapping[str, tuple[object, ...] | type]) -> Any:
    """Return the table if all its keys and values are known."""
    table = _table(where, given)
    for key, value in table.items():
        name = f"{where}.{key}".lstrip(".")
        if key not in known:
            raise ValueError(f"{name}: unknown key; known are {', '.join(known)}")
        allowed = known[key]
        if isinstance(allowed, tuple):
            if not any(value is each or (value == each and type(value) is str) for each in allowed):
                choices = " or ".join(str(each).lower() for each in allowed)
                raise ValueError(f"{name}: must be {choices}")
        elif type(value) not in {int, float} or not 0 <= value < math.inf:
            raise ValueError(f"{name}: must be a number from 0")
    return table


def _table(where: str, given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: must be a table")  # noqa: TRY004 - one kind of refusal
    return given
