"""Images that two models answer otherwise, from the records of both runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from illama_eval.change import Change, Side
from illama_eval.measured import RECORDS, align
from illama_eval.statistics import McNemar, detectable_difference, mcnemar

GUESSES = {("accuracy", "top1"): 1, ("accuracy", "top5"): 5}
"""Metrics that count right answers, by the guesses that they allow."""


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
    test: McNemar
    detectable: float
    """Difference in accuracy that is found in 80 % of repetitions."""


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


def count_flips(records: PairedRecords) -> Flips:
    """Return the flips of the first guess."""
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
        test=mcnemar(lost, gained),
        detectable=detectable_difference(lost, gained, images) if images else 0.0,
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
