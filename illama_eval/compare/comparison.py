"""The comparison of two runs over the same images: changes, flips and what else differs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from illama_eval.compare.change import Change, Side, find_change
from illama_eval.compare.consistency import GUESSES, RECORDS
from illama_eval.compare.subject_run import (
    Key,
    Mismatch,
    SubjectRun,
    align,
    find_mismatches,
    find_other_differences,
    pair_subjects,
    read_subject_runs,
)
from illama_eval.results import ResultError
from illama_eval.statistics import McNemar, detectable_difference, holm, mcnemar

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One subject on both sides, with all that a report of the comparison shows."""

    baseline: tuple[str, ...]
    candidate: tuple[str, ...]
    """Paths of the runs, as given; several of a side are training seeds."""
    subjects: tuple[str, str]
    source: str
    images: int
    changes: tuple[Change, ...]
    flips: Flips | None
    mismatches: tuple[Mismatch, ...]
    """Fields that must agree and do not."""
    other_differences: tuple[Mismatch, ...]
    """Fields that may differ, and do."""
    notes: tuple[str, ...]
    """Why flips or tests are missing."""


def to_json(compared: Sequence[Comparison]) -> str:
    """Return comparisons as JSON; what is undefined is null."""
    plain = {"schema_version": SCHEMA_VERSION, "comparisons": [asdict(each) for each in compared]}
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def compare_paths(
    baseline: str, candidate: str, *, everywhere: bool = False
) -> tuple[Comparison, ...]:
    """Compare two runs, or two groups of runs `A1,A2,A3`, subject by subject.

    `everywhere` compares rows by layer, head or bin as well.

    Raises:
        ResultError: a run is missing or damaged, or the two are not comparable; names the field.
    """
    sides = [
        [read_subject_runs(path, everywhere=everywhere) for path in paths_of(each)]
        for each in (baseline, candidate)
    ]
    compared = compare_runs(*sides)
    mismatch = next((found for each in compared for found in each.mismatches), None)
    if mismatch is not None:
        raise ResultError(f"{baseline} and {candidate} are not comparable: {mismatch}")
    return compared


def paths_of(given: str) -> list[Path]:
    """Return the paths in `A1,A2,A3`; a file whose name has commas is one path."""
    return [Path(given)] if Path(given).exists() else [Path(part) for part in given.split(",")]


def compare_runs(
    baseline: Sequence[tuple[SubjectRun, ...]], candidate: Sequence[tuple[SubjectRun, ...]]
) -> tuple[Comparison, ...]:
    """Compare two runs subject by subject, or two groups of runs of one subject each.

    Raises:
        ResultError: a run of a group has several subjects, or is in it twice; or no two
            subjects pair up.
    """
    if len(baseline) == len(candidate) == 1:
        pairs = pair_subjects(baseline[0], candidate[0])
        return tuple(compare([before], [after]) for before, after in pairs)
    for side in (baseline, candidate):
        several = [run[0].path for run in side if len(run) > 1]
        if several:
            raise ResultError(f"{several[0]}: several subjects; a group takes runs of one each")
        models = [_digest_of(run[0]) for run in side]
        if len(set(models)) < len(models):
            raise ResultError(f"{side[0][0].path}: a group with the same weights twice")
    return (compare([run[0] for run in baseline], [run[0] for run in candidate]),)


def _digest_of(run: SubjectRun) -> str:
    """Return the sha256 of a run's weights, or of the scores that were saved of them."""
    known = (run.identity.get(name) for name in ("weights_sha256", "scores_sha256"))
    return next((str(each) for each in known if each), run.path)


def compare(baseline: Side, candidate: Side) -> Comparison:
    """Compare one subject on both sides; several of a side are training seeds of one recipe.

    Fields that do not agree are listed in `mismatches`; the changes they concern have no numbers.
    """
    mismatches = _mismatches(baseline, candidate)
    records, note = pair_records(baseline, candidate)
    keys = dict.fromkeys(key for each in (*baseline, *candidate) for key in each.rows)
    changes = [find_change(key, baseline, candidate, mismatches) for key in keys]
    grouped = baseline[0].groups is not None
    if records and not grouped:
        changes = [apply_mcnemar(change, records) for change in changes]
    sources = [row.source for each in (*baseline, *candidate) for row in each.rows.values()]
    return Comparison(
        baseline=tuple(each.path for each in baseline),
        candidate=tuple(each.path for each in candidate),
        subjects=(_name(baseline), _name(candidate)),
        source=sources[0],
        images=max(change.images for change in changes),
        changes=adjust(
            changes,
            {change.key for change in changes if change.tested},
            {change.key for change in changes if change.at},
        ),
        flips=count_flips(records, grouped=grouped) if records and not mismatches else None,
        mismatches=mismatches,
        other_differences=tuple(find_other_differences(baseline[0], candidate[0])),
        notes=tuple(filter(None, (note, *_unbound((*baseline, *candidate))))),
    )


def adjust(changes: Iterable[Change], *families: Collection[Key]) -> tuple[Change, ...]:
    """Return the changes with p adjusted (Holm), over each family those that have one."""
    changes = tuple(changes)
    adjusted: dict[Key, float] = {}
    for family in families:
        raw = {each.key: each.p for each in changes if each.key in family and each.p is not None}
        adjusted |= zip(raw, holm(list(raw.values())), strict=True)
    return tuple(replace(each, p_holm=adjusted.get(each.key)) for each in changes)


def find_best(names: Sequence[str], change_of: Callable[[str, str], Change | None]) -> str | None:
    """Return the model that is clearly better than every other one, or None.

    `change_of` returns the change of one number from a first model to a second, in the order of
    `names`; None where the two were not compared. Calibration errors do not tell apart two models
    that cannot be told from calibrated ones.
    """
    wins: Counter[str] = Counter()
    for first, second in combinations(names, 2):
        change = change_of(first, second)
        if change is not None and not change.calibrated:
            wins[{"better": second, "worse": first}.get(change.finding, "")] += 1
    return next((name for name in names if wins[name] == len(names) - 1 > 0), None)


def _mismatches(baseline: Side, candidate: Side) -> tuple[Mismatch, ...]:
    """Return the mismatches of the runs with the first one, each field once."""
    first, *others = (*baseline, *candidate)
    found: dict[str, Mismatch] = {}
    for other in others:
        for mismatch in find_mismatches(first, other):
            found.setdefault(mismatch.field, mismatch)
    return tuple(found.values())


def _unbound(runs: Iterable[SubjectRun]) -> list[str]:
    """Return a note on each run whose files are not bound to it."""
    paths = dict.fromkeys(each.path for each in runs if not each.bound)
    return [f"{path}: written before run.json named its files; measure again" for path in paths]


def _name(side: Side) -> str:
    more = len(side) - 1
    return side[0].subject + (f" and {more} more seed{'s' * (more > 1)}" if more else "")


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Right and wrong first guesses of two models, image by image."""

    images: int
    both_right: int
    lost: int
    """Right in the baseline, wrong in the candidate."""
    gained: int
    both_wrong: int
    changed: int
    """Images with another first guess, right or wrong."""
    test: McNemar | None
    """None where the images come in groups: it is for independent ones."""
    detectable: float | None
    """Difference in accuracy that is found in 80 % of repetitions; None as above."""


@dataclass(frozen=True, kw_only=True)
class PairedRecords:
    """Records of both models over the images that both saw, in one order."""

    baseline: dict[str, NDArray[Any]]
    candidate: dict[str, NDArray[Any]]

    def outcomes(self, guesses: int) -> NDArray[np.int64]:
        """Return images by (right in the baseline, right in the candidate), int64 [2, 2]."""
        before, after = (side["rank"] < guesses for side in (self.baseline, self.candidate))
        return np.bincount(2 * before + after, minlength=4).reshape(2, 2)


def pair_records(baseline: Side, candidate: Side) -> tuple[PairedRecords | None, str]:
    """Return the records of two runs image by image, or None and why there are none."""
    if len(baseline) > 1 or len(candidate) > 1:
        return None, "flips are for two models: groups of seeds have none"
    for side in (*baseline, *candidate):
        if side.ids is None or not set(RECORDS) <= side.records.keys():
            return None, f"{side.path}: no per-image records, so no flips and no McNemar's test"
    order = align(baseline[0], candidate[0])
    if order is None:
        return None, "the per-image records are of other images"
    before = baseline[0].records
    after = {name: values[order] for name, values in candidate[0].records.items()}
    used = (before["seen"] > 0) & (after["seen"] > 0)
    return PairedRecords(
        baseline={name: before[name][used] for name in RECORDS},
        candidate={name: after[name][used] for name in RECORDS},
    ), ""


def count_flips(records: PairedRecords, *, grouped: bool = False) -> Flips:
    """Return the flips of the first guess, tested unless the images come in groups."""
    (both_wrong, gained), (lost, both_right) = records.outcomes(1).tolist()
    images = both_wrong + gained + lost + both_right
    guesses = (side["prediction"] for side in (records.baseline, records.candidate))
    return Flips(
        images=images,
        both_right=both_right,
        lost=lost,
        gained=gained,
        both_wrong=both_wrong,
        changed=int(np.count_nonzero(np.not_equal(*guesses))),
        test=None if grouped else mcnemar(lost, gained),
        detectable=None if grouped or not images else detectable_difference(lost, gained, images),
    )


def apply_mcnemar(change: Change, records: PairedRecords) -> Change:
    """Return a change of accuracy with McNemar's p and detectable difference, another as it is."""
    guesses = GUESSES.get((change.study, change.metric))
    if guesses is None or change.problem or change.at:
        return change
    (_, gained), (lost, _) = records.outcomes(guesses).tolist()
    return replace(
        change,
        p=mcnemar(lost, gained).p,
        detectable=detectable_difference(lost, gained, len(records.baseline["rank"])),
    )
