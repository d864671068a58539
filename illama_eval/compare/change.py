"""The change of one metric between two runs: the difference over the same images, tested.

Every run weighs an image alike in each of its 200 replicates, so the difference of two runs'
replicates is a paired bootstrap. It covers the choice of images. How much another training seed
would change is seen only where a side is several runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from illama_eval.compare.subject_run import Key, Mismatch, SubjectRun
from illama_eval.results import TOO_FEW, ResultError, Row, nested_get
from illama_eval.statistics import (
    FALSE_ALARMS,
    Z_POWER,
    Array,
    Estimate,
    paired_difference,
    recovered_difference,
    welch,
)
from illama_eval.units import unit_of

ROUNDING = 1e-9
"""Relative difference up to which two numbers are equal: batches and machines may differ."""

CALIBRATED_P = {"ece": "calibrated_p", "ece_scaled": "calibrated_p_scaled"}
"""Calibration error -> metric that says how often a calibrated model would show as much."""

REDUNDANT_METRICS = {
    "calibration": {
        "ece_floor",
        "ece_left",
        "ece_mass",
        "ece_unscaled",
        "mce",
        "rmsce",
        "rmsce_debiased",
        "classwise_ece",
        "nll",
        "nll_unscaled",
    }
}
"""Metrics that repeat another one: shown, but not counted among the tests."""

NO_REPLICATES = "its interval is kept without its replicates; measure again"
"""Why a number cannot be compared whose replicates.npz is missing."""

Problem = Literal["", "not comparable", "missing", "new"]
Side = Sequence[SubjectRun]
"""One run, or several of one recipe and different training seeds."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """The change of one metric: candidate less baseline."""

    study: str
    metric: str
    at: Mapping[str, int | str]
    unit: str
    images: int
    groups: int | None = None
    """What is resampled where images are not independent; None: the images themselves."""
    better: Literal["higher", "lower"] | None
    tolerance: float
    """As declared by the study: the change that a gate lets pass."""
    baseline: float | None
    candidate: float | None
    """Values, means over seeds; None where undefined or not measured."""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    """Ends of the paired 95 % interval over images; None without replicates."""
    seeds_low: float | None = None
    seeds_high: float | None = None
    """Ends of the 95 % interval over training seeds (Welch); None unless a side has several."""
    p: float | None = None
    """Two-sided: over seeds where there are some, McNemar's for accuracy, else over images."""
    p_holm: float | None = None
    """The same, adjusted for all metrics of its family; None outside all families."""
    detectable: float | None = None
    """The difference that this number of images shows in 80 % of repetitions."""
    calibrated: bool = False
    """Whether neither side can be told from a calibrated model by its error."""
    undecidable: str = ""
    """Why the difference cannot be told from chance, although there are numbers; else empty."""
    problem: Problem = ""
    """Why there are no numbers; empty where there are."""
    reason: str = ""
    """The problem in words."""

    @property
    def key(self) -> Key:
        """Study, metric and `at`."""
        return self.study, self.metric, tuple(self.at.items())

    @property
    def smallest(self) -> float:
        """The smallest difference that means something, in the metric's unit."""
        return unit_of(self.unit).smallest

    @property
    def units(self) -> int | None:
        """How many images or groups were resampled; None where it is but one."""
        units = self.groups or self.images
        return units if units > 1 else None

    @property
    def tested(self) -> bool:
        """Whether it is of all images, and does not repeat another."""
        return not self.at and self.metric not in REDUNDANT_METRICS.get(self.study, ())

    @property
    def in_family(self) -> bool:
        """Whether a gate judges it by itself: tested, and with a better side."""
        return self.tested and self.better is not None

    @property
    def finding(self) -> str:
        """better, worse or differs where the adjusted p shows a difference; else empty.

        All intervals must exclude zero on one side as well, and the difference be large enough to
        mean something.
        """
        if self.p_holm is None or self.p_holm > FALSE_ALARMS:
            return ""
        if abs(self.difference or 0.0) < self.smallest:
            return ""
        intervals = [(self.low, self.high), (self.seeds_low, self.seeds_high)]
        known = [(low, high) for low, high in intervals if low is not None and high is not None]
        signs = {(low > 0) - (high < 0) for low, high in known}
        if signs not in ({1}, {-1}):
            return ""
        if self.better is None:
            return "differs"
        return "better" if (1 in signs) == (self.better == "higher") else "worse"


def find_change(
    key: Key, baseline: Side, candidate: Side, mismatches: Iterable[Mismatch]
) -> Change:
    """Return the change of one metric, or why there is none.

    Raises:
        ResultError: the replicates of a row are not 200.
    """
    before, after = ([each.rows.get(key) for each in side] for side in (baseline, candidate))
    problem, reason = _find_problem(before, after, mismatches)
    shown = next(row for row in (*after, *before) if row is not None)
    declared = _read_declaration(candidate if problem == "new" else baseline, shown)
    change = Change(
        study=shown.study,
        metric=shown.metric,
        at=shown.at,
        unit=shown.unit,
        images=shown.images,
        groups=baseline[0].groups,
        better=declared.better,
        tolerance=declared.tolerance,
        baseline=_mean([None if row is None else row.value for row in before]),
        candidate=_mean([None if row is None else row.value for row in after]),
        problem=problem,
        reason=reason,
    )
    if problem:
        return change
    if declared.biased:
        known = all(_is_near_calibrated(key, each) for each in (*baseline, *candidate))
        change = replace(change, calibrated=known)
    first, last = ([row for row in side if row is not None] for side in (before, after))
    if declared.paired:
        change = replace(change, undecidable=_find_doubt([*first, *last]))
    return _with_seeds(_with_images(change, first, last, declared), first, last)


def _find_problem(
    before: Sequence[Row | None], after: Sequence[Row | None], mismatches: Iterable[Mismatch]
) -> tuple[Problem, str]:
    """Return why two sides of a metric cannot be compared, or nothing."""
    lacks = _find_lack(before)
    if lacks:
        return "new", f"{lacks} in the baseline"
    lacks = _find_lack(after)
    if lacks:
        return "missing", f"{lacks} in the run"
    rows = [row for row in (*before, *after) if row is not None]
    for mismatch in mismatches:
        if mismatch.study in {"", rows[0].study}:
            return "not comparable", str(mismatch)
    for name in ("images", "unit"):
        values = list(dict.fromkeys(str(getattr(row, name)) for row in rows))
        if len(values) > 1:
            return "not comparable", f"{name}: {values[0]} in the baseline, {values[1]} here"
    return "", ""


def _find_doubt(rows: Sequence[Row]) -> str:
    """Return why a difference cannot be told from chance: replicates are undefined, or not there.

    A number that never has an interval, such as a count, is judged as it is.
    """
    bare = [row for row in rows if row.replicates is None]
    few = [row.reason for row in bare if row.reason.startswith(TOO_FEW)]
    if few:
        return few[0]
    return NO_REPLICATES if any(row.low is not None for row in bare) else ""


def _find_lack(rows: Sequence[Row | None]) -> str:
    """Return what keeps a side from having a value, or nothing."""
    if any(row is None for row in rows):
        return "not measured"
    undefined = [row.reason for row in rows if row is not None and row.value is None]
    return f"undefined ({undefined[0] or 'no reason given'})" if undefined else ""


@dataclass(frozen=True, kw_only=True)
class _Declared:
    """The declaration of a metric by its study."""

    better: Literal["higher", "lower"] | None
    tolerance: float
    biased: bool
    """Whether resampling biases it, so that its interval is made otherwise (`basic`)."""
    paired: bool
    """Whether its interval comes with replicates."""


def _read_declaration(runs: Iterable[SubjectRun], row: Row) -> _Declared:
    """Return what the first header that knows the metric declares; nonsense counts as nothing.

    Of the baseline: a run does not choose how it is judged.
    """
    found = (nested_get(each.header, "metrics", row.study, row.metric) for each in runs)
    declared: Mapping[str, Any] = next((each for each in found if isinstance(each, Mapping)), {})
    better, tolerance = declared.get("better"), declared.get("tolerance")
    usable = isinstance(tolerance, int | float) and 0 <= tolerance < math.inf
    return _Declared(
        better=better if better in {"higher", "lower"} else None,
        tolerance=float(tolerance or 0.0) if usable else 0.0,
        biased=declared.get("interval") == "basic",
        paired=declared.get("paired") is not False,
    )


def _is_near_calibrated(key: Key, measured: SubjectRun) -> bool:
    """Return whether the test on this error, if there is one, finds no miscalibration."""
    study, metric, at = key
    p = measured.rows.get((study, CALIBRATED_P.get(metric, ""), at))
    return p is not None and p.value is not None and p.value >= FALSE_ALARMS


def _with_images(
    change: Change, before: Sequence[Row], after: Sequence[Row], declared: _Declared
) -> Change:
    """Return the change with its difference and, from replicates, its interval over images."""
    pooled, others = (_pool(side) for side in (before, after))
    first, last = change.baseline, change.candidate
    assert first is not None
    assert last is not None
    same = _equal(np.array(first), np.array(last)) and _equal(pooled, others)
    if same:
        last, others = first, pooled
    if pooled is None or others is None:
        low, high = (None if declared.paired else _find_apart(before, after)) or (None, None)
        return replace(change, difference=last - first, low=low, high=high)
    try:
        if declared.biased and not same:
            sides = [_estimate(*each) for each in ((before, pooled), (after, others))]
            if sides[0] is None or sides[1] is None:
                return replace(change, difference=last - first)
            found = recovered_difference(sides[0], sides[1])
        else:
            found = paired_difference(first, last, pooled, others, units=change.units)
    except ValueError as problem:
        raise ResultError(
            f"{change.study}.{change.metric}: damaged replicates ({problem})"
        ) from problem
    return replace(
        change,
        difference=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        detectable=Z_POWER * found.deviation,
    )


def _estimate(rows: Sequence[Row], replicates: Array) -> Estimate | None:
    """Return a side of a metric that resampling biases; None if a run has no interval of it."""
    value, low, high = (
        _mean([getattr(row, name) for row in rows]) for name in ("value", "low", "high")
    )
    if value is None or low is None or high is None:
        return None
    return Estimate(value=value, low=low, high=high, replicates=replicates)


def _find_apart(before: Sequence[Row], after: Sequence[Row]) -> tuple[float, float] | None:
    """Return the interval of a difference from those of both sides, as if nothing paired them.

    It holds whatever the two have in common.
    """
    sides = [
        (_mean([row.low for row in side]), _mean([row.high for row in side]))
        for side in (before, after)
    ]
    (low, high), (next_low, next_high) = sides
    if low is None or high is None or next_low is None or next_high is None:
        return None
    return next_low - high, next_high - low


def _with_seeds(change: Change, before: Sequence[Row], after: Sequence[Row]) -> Change:
    """Return the change with its interval over training seeds, if a side has several."""
    if max(len(before), len(after)) < 2:  # noqa: PLR2004 - one seed has no spread
        return change
    sides = ([row.value for row in side if row.value is not None] for side in (before, after))
    low, high, p = welch(*sides)
    most = unit_of(change.unit).width
    return replace(change, seeds_low=max(low, -most), seeds_high=min(high, most), p=p)


def _pool(rows: Sequence[Row]) -> Array | None:
    """Return the mean replicates of several runs, [200]; None if a run has none."""
    stored = [row.replicates for row in rows if row.replicates is not None]
    if len(stored) < len(rows) or len({each.shape for each in stored}) > 1:
        return None
    return np.asarray(np.mean(stored, axis=0))


def _equal(first: Array | None, last: Array | None) -> bool:
    """Return whether two arrays are the same up to rounding."""
    if first is None or last is None or first.shape != last.shape:
        return first is last
    return bool(np.allclose(first, last, rtol=ROUNDING, atol=0))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
