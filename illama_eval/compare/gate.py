"""The gate: every metric of a run judged against a baseline, and the exit code.

With [low, high] the paired 95 % interval of a difference, turned so that more is better, and the
margin m >= 0 that passes: better if low > 0, same if low >= -m, worse if high < -m, otherwise
inconclusive. Counts have no interval, and where the policy says so the estimate decides: then the
difference itself is both ends. Any other number without an interval is judged as if it could move
as far by chance as the mean of as many numbers within its range (Hoeffding 1963): what is unknown
fails only where it is beyond doubt. Where several metrics are gated, one of them is worse by chance
more often than in 5 % of runs: it must also be worse by its adjusted p, one-sided at 5 %
(docs/gate.md has the error rates).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from illama.files import replacing
from illama_eval.compare.change import Change
from illama_eval.compare.comparison import Comparison, adjust, compare_runs
from illama_eval.compare.consistency import RECORDS
from illama_eval.compare.policy import ANY, Policy, Rule
from illama_eval.compare.subject_run import read_subject_runs
from illama_eval.digests import bind
from illama_eval.results import ResultError, Run, files_of, read_arrays, replicate_table
from illama_eval.statistics import FALSE_ALARMS
from illama_eval.units import unit_of

State = Literal[
    "better", "same", "inconclusive", "worse", "not comparable", "missing", "new", "not gated"
]
Outcome = Literal["pass", "warn", "fail", "error", "info"]
"""The consequence of a state: `fail` is a regression, or an inconclusive metric that the policy
fails; `error` is a metric that cannot be judged."""

COMPARED = frozenset({"better", "same", "inconclusive", "worse"})
"""States of metrics with numbers on both sides."""

UNMEASURED = "measured neither in the baseline nor in the run; check the policy's name"

COUNTS = frozenset({"images"})
"""Units of numbers that are counted, not estimated."""

FEWEST_IMAGES = 30
"""Images, or groups of them, below which no regression is told from chance."""

NOTHING = "nothing was compared: no gated metric has a number on both sides"
DIRECTIONLESS = 'no side of it is declared better; give the policy better = "higher" or "lower"'
AMONG_MANY = "worse by itself, but one of so many metrics may be by chance"
NEAR_CALIBRATED = "neither can be told from a calibrated model"


@dataclass(frozen=True, kw_only=True)
class MetricVerdict:
    """The verdict on one metric of one subject."""

    subject: str
    study: str
    metric: str
    state: State
    outcome: Outcome
    margin: float | None = None
    """Loss that passes, in the metric's unit; None where no numbers were compared."""
    images_wanted: int | None = None
    """Of an inconclusive metric: images on which a loss of the margin would likely be seen."""
    reason: str = ""
    """A note on how the state was found, or why there are no numbers."""
    change: Change | None = None
    """The numbers; None for a metric that neither side measured."""

    @property
    def name(self) -> str:
        """Study and metric, as a policy names them."""
        return f"{self.study}.{self.metric}"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The verdicts on all metrics of a run."""

    run: str = ""
    baseline: str = ""
    judged: tuple[MetricVerdict, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    problem: str = ""
    """Why nothing could be judged; empty otherwise."""

    @property
    def exit_code(self) -> int:
        """1 if a gated metric fails, else 3 if one could not be judged, else 0."""
        outcomes = {each.outcome for each in self.judged}
        if "fail" in outcomes:
            return 1
        return 3 if self.problem or "error" in outcomes else 0

    @property
    def regressions(self) -> list[MetricVerdict]:
        """The gated metrics that are worse."""
        return [each for each in self.of("fail") if each.state == "worse"]

    @property
    def unproven(self) -> list[MetricVerdict]:
        """The gated metrics that fail because the policy fails what is inconclusive."""
        return [each for each in self.of("fail") if each.state == "inconclusive"]

    def of(self, *outcomes: Outcome) -> list[MetricVerdict]:
        """Return the verdicts with one of these outcomes."""
        return [each for each in self.judged if each.outcome in outcomes]


def check(run: Path, baseline: Path, policy: Policy | None = None) -> GateResult:
    """Judge the headline of a run directory against a baseline file or another run directory.

    Raises:
        ResultError: the run itself cannot be read, or the policy does not fit a metric; a baseline
            that cannot be read is a verdict.
    """
    candidate = read_subject_runs(run)
    try:
        if files_of(run)[0].resolve() == files_of(baseline)[0].resolve():
            raise ResultError(f"{baseline}: the baseline is the run itself")  # noqa: TRY301 - as below
        compared = compare_runs([read_subject_runs(baseline)], [candidate])
    except ResultError as problem:
        hint = "" if files_of(baseline)[0].exists() else "; --update-baseline writes one"
        return GateResult(run=str(run), baseline=str(baseline), problem=f"{problem}{hint}")
    return replace(judge(compared, policy or Policy()), run=str(run), baseline=str(baseline))


def judge(compared: Sequence[Comparison], policy: Policy) -> GateResult:
    """Judge every metric of the compared subjects.

    Raises:
        ResultError: the policy does not fit a metric.
    """
    compared = tuple(_adjusted(each, policy) for each in compared)
    judged = tuple(chain.from_iterable(_judge_all(each, policy) for each in compared))
    result = GateResult(judged=judged, comparisons=compared)
    if any(each.state in COMPARED for each in result.of("pass", "warn", "fail")):
        return result
    mismatches = [mismatch for each in compared for mismatch in each.mismatches]
    return replace(result, problem=f"not comparable: {mismatches[0]}" if mismatches else NOTHING)


def write_baseline(run: Path, baseline: Path) -> None:
    """Write a run's headline as a baseline file, its replicates and records as .npz beside it.

    Raises:
        ResultError: the run cannot be read, or the baseline is no .json file.
        CheckpointError: it cannot be written.
    """
    if baseline.suffix != ".json" or baseline.is_dir():
        raise ResultError(
            f"{baseline}: --update-baseline writes a file; name one that ends in .json"
        )
    read_subject_runs(run)
    whole = Run.load(run, headline=True)
    stored = read_arrays(run / "per_image.npz", ("ids", "subjects", *RECORDS))
    records = {name: _small(values) for name, values in stored.items()}
    baseline.parent.mkdir(parents=True, exist_ok=True)
    file, arrays = files_of(baseline)
    with replacing(arrays) as stream:
        np.savez_compressed(stream, allow_pickle=False, **replicate_table(whole.rows), **records)
    with replacing(file) as stream:
        stream.write(bind(whole, baseline).to_json().encode("utf-8"))


def _small(values: NDArray[Any]) -> NDArray[Any]:
    """Return counts in the smallest type that holds them, anything else as it is."""
    if values.dtype.kind != "i" or values.min(initial=0) < 0:
        return values
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _adjusted(comparison: Comparison, policy: Policy) -> Comparison:
    """Return the comparison with p adjusted over the metrics that the policy gates, and others."""
    gated = {
        change.key
        for change in comparison.changes
        if policy.rule(change.study, change.metric).settled(change).severity == "fail"
    }
    others = {change.key for change in comparison.changes if change.tested} - gated
    return replace(comparison, changes=adjust(comparison.changes, gated, others))


def _judge_all(comparison: Comparison, policy: Policy) -> Iterator[MetricVerdict]:
    """Yield the verdicts on one subject, and on metrics of the policy that nothing measured."""
    subject = comparison.subjects[1]
    for change in comparison.changes:
        rule = policy.rule(change.study, change.metric).settled(change)
        yield _judge(subject, change, rule, policy)
    known = {(change.study, change.metric) for change in comparison.changes}
    for study, metric in policy.named:
        if (study, metric) not in known:
            yield MetricVerdict(
                subject=subject,
                study=study,
                metric=metric,
                state="missing",
                outcome="warn" if policy.rule(study, metric).severity == "warn" else "error",
                reason=UNMEASURED,
            )
    for study in policy.studies:
        if study not in {change.study for change in comparison.changes}:
            yield MetricVerdict(
                subject=subject,
                study=study,
                metric=ANY,
                state="missing",
                outcome="warn",
                reason=f"{study}: {UNMEASURED}",
            )


def _judge(subject: str, change: Change, rule: Rule, policy: Policy) -> MetricVerdict:
    """Return the verdict on one metric."""
    judged = MetricVerdict(
        subject=subject,
        study=change.study,
        metric=change.metric,
        state="not gated",
        outcome="info",
        reason=change.reason,
        change=change,
    )
    if rule.severity == "ignore":
        return judged
    outcome: Outcome
    if rule.better is None:
        outcome = "error" if rule.severity == "fail" else "warn"
        return replace(judged, state="not comparable", outcome=outcome, reason=DIRECTIONLESS)
    if change.problem:
        return replace(judged, state=change.problem, outcome=_without_numbers(change, rule, policy))
    doubt = _find_doubt(change, rule)
    if doubt:
        outcome = "error" if rule.severity == "fail" else "warn"
        return replace(judged, state="not comparable", outcome=outcome, reason=doubt)
    tolerated = rule.margin(change.baseline or 0.0)
    margin = max(tolerated, change.smallest)
    state, reason = _find_state(change, rule, margin)
    return replace(
        judged,
        state=state,
        outcome=_with_numbers(state, rule, policy),
        margin=margin,
        images_wanted=_images_wanted(change, state, tolerated),
        reason=reason,
    )


def _find_doubt(change: Change, rule: Rule) -> str:
    """Return why chance cannot be told from a regression, or nothing."""
    if change.images < FEWEST_IMAGES:
        return f"{change.images} images are too few to judge; {FEWEST_IMAGES} are needed"
    if change.groups is not None and change.groups < FEWEST_IMAGES:
        return f"{change.groups} groups of images are too few to judge; {FEWEST_IMAGES} are needed"
    return change.undecidable if rule.significant else ""


def _find_state(change: Change, rule: Rule, margin: float) -> tuple[State, str]:
    """Return the state of a metric with numbers on both sides, and a note on how it was found."""
    assert change.difference is not None
    sign = 1 if rule.better == "higher" else -1
    if change.low is None or change.high is None or not rule.significant:
        return _find_state_by_estimate(change, rule, sign * change.difference, margin)
    low, high = sorted((sign * change.low, sign * change.high))
    if low > 0 and abs(change.difference) >= change.smallest:
        return "better", ""
    if low >= -margin:
        return "same", ""
    if high < -margin:
        chance = change.p_holm is not None and change.p_holm > 2 * FALSE_ALARMS
        return ("inconclusive", AMONG_MANY) if chance else ("worse", "")
    return ("same", NEAR_CALIBRATED) if change.calibrated else ("inconclusive", "")


def _find_state_by_estimate(
    change: Change, rule: Rule, gain: float, margin: float
) -> tuple[State, str]:
    """Return the state of a metric without an interval, or whose estimate is to decide."""
    reach, reason = _find_reach(change, rule)
    if abs(gain) <= margin:
        return "same", reason
    if abs(gain) <= margin + reach:
        return "inconclusive", reason
    return "better" if gain > 0 else "worse", reason


def _find_reach(change: Change, rule: Rule) -> tuple[float, str]:
    """Return how far chance may move a number without an interval, and a note on it."""
    if not rule.significant:
        return 0.0, "judged by its margin alone: the estimate decides"
    if change.unit in COUNTS:
        return 0.0, "judged by its margin alone: it is a count"
    width = unit_of(change.unit).width
    reach = width * math.sqrt(2 * math.log(2 / FALSE_ALARMS) / change.images)
    moves = f"how far the mean of any {change.images:,} images may move"
    return reach, f"it has no interval: judged by {moves}"


def _images_wanted(change: Change, state: State, margin: float) -> int | None:
    """Return on how many images a loss of the margin would be seen in 80 % of repetitions."""
    if state != "inconclusive" or not margin or not change.detectable:
        return None
    return math.ceil(change.images * (change.detectable / margin) ** 2)


def _with_numbers(state: State, rule: Rule, policy: Policy) -> Outcome:
    if state == "worse":
        return "fail" if rule.severity == "fail" else "warn"
    if state == "inconclusive":
        return "fail" if (policy.inconclusive, rule.severity) == ("fail", "fail") else "warn"
    return "pass"


def _without_numbers(change: Change, rule: Rule, policy: Policy) -> Outcome:
    """Return the outcome of a metric that is missing, new or not comparable."""
    lenient = {"missing": policy.removed, "new": policy.new}.get(change.problem, "fail")
    if lenient == "allow":
        return "info"
    return "error" if lenient == rule.severity == "fail" else "warn"
