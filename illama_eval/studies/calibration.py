"""Calibration: whether confidence, the probability of the predicted class, is how often it is true.

ece = sum_b n_b / N |accuracy_b - confidence_b| over 15 equally wide bins (lo, hi] (Guo et al. 2017,
equation 3). Beside it other binnings and norms, proper scores, the area under the risk-coverage
curve, and the same after one temperature has scaled all logits, fitted on other images than it is
scored on. Plug-in errors are biased upward: `ece_floor` is what a perfectly calibrated model with
these confidences would show. A bin is placed at its mean confidence, not at its middle, and a
confidence of exactly 1 is in the last bin. Images whose logits are no distribution (NaN,
infinity) are left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from illama.observation import Batch, OutputSeen, Piece, batch_of
from illama_eval.functional.predictions import FEW_WRONG, LEAST_WRONG, logits_and_labels, predict
from illama_eval.functional.reliability import (
    Bins,
    Scored,
    Table,
    join_classes,
    replicate_weights,
    sum_class_bins,
)
from illama_eval.functional.temperature import (
    GRID,
    Fit,
    Scaling,
    count_fitted,
    scale_by_curves,
    scale_by_logits,
    sum_losses,
)
from illama_eval.results import Row, Verdict
from illama_eval.statistics import FALSE_ALARMS, Estimate, recovered_difference, wilson_interval
from illama_eval.study import Metric, StudyResult, Sums, record, row

Split = Literal["hash", "first-half"]

LOGITS_KEPT = 200_000_000
"""Images times classes up to which all logits are kept, and the temperature is fitted exactly."""

SMALLEST_P = 1e-4
"""Below it a p value is not printed: it would rest on the far tail of a normal distribution."""

TESTED = "one-sided, of a perfectly calibrated model with these confidences"

TOO_FEW = "too few images: some replicates hold none that is scored"

UNCOVERED = "no interval: none is known that covers near calibration"

FIXED = "the temperature is not fitted again in the replicates"

MOST_BINS = 1000
"""Far more would only fill memory: a bin is to hold images."""

LEAST_SCALED = 100
"""Images from which the interval of a scaled error covers (docs/coverage.md)."""

LEAST_WRONG_TO_FIT = 30
"""Wrong answers from which the interval of a temperature covers (docs/coverage.md)."""

BINNED = Metric(better="lower", tolerance=2e-3, interval="basic")
LOSS = Metric(unit="nats", better="lower", tolerance=5e-3)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration of the top label, before and after one temperature.

    Raises:
        ValueError: there is no bin or too many, or the split is unknown.
    """

    bins: int = 15
    """Bins of every binned error."""
    split: Split = "hash"
    """`hash`: two halves by image id, each half's temperature scores the other; `first-half`:
    fitted on the first half of the source, scored on the rest."""

    name: ClassVar[str] = "calibration"
    wants: ClassVar[frozenset[str]] = frozenset({"logits"})
    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    tests_images: ClassVar[frozenset[str]] = frozenset({"calibration"})
    """The verdict on calibration is a test of independent images."""
    metrics: ClassVar[Mapping[str, Metric]] = {
        "ece": BINNED,
        "ece_left": BINNED,
        "ece_mass": BINNED,
        "ece_floor": Metric(least_images=100),
        "calibrated_p": Metric(unit="p"),
        "mce": BINNED,
        "rmsce": BINNED,
        "rmsce_debiased": BINNED,
        "classwise_ece": BINNED,
        "nll": LOSS,
        "brier": Metric(unit="squared distance", better="lower", tolerance=2e-3),
        "confidence": Metric(),
        "aurc": Metric(better="lower", tolerance=2e-3),
        "temperature": Metric(unit="factor"),
        "ece_scaled": Metric(
            better="lower", tolerance=2e-3, interval="basic", least_images=LEAST_SCALED
        ),
        "calibrated_p_scaled": Metric(unit="p"),
        "nll_scaled": LOSS,
        "ece_unscaled": BINNED,
        "nll_unscaled": LOSS,
        "bin_images": Metric(unit="images"),
        "bin_confidence": Metric(),
        "bin_accuracy": Metric(paired=False),
    }

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= MOST_BINS:
            raise ValueError(f"calibration: bins={self.bins} is not 1 to {MOST_BINS:,}")
        if self.split not in get_args(Split):
            known = " or ".join(get_args(Split))
            raise ValueError(f"calibration: split={self.split!r} is not {known}")

    def measure(self, piece: Piece) -> Sums:
        """Return each image's confidence, correctness and losses, and its logits where they fit.

        Raises:
            ValueError: the source has no labels.
        """
        if not isinstance(piece, OutputSeen):
            return {}
        logits, labels = logits_and_labels(piece)
        seen, batch = predict(logits, labels), batch_of(piece)
        return {
            "images": torch.tensor(batch.size),
            "class_bins": sum_class_bins(seen, labels, self.bins),
            "image/usable": record(batch, seen.usable.long()),
            "image/key": record(batch, batch.keys),
            **(
                {} if batch.group_keys is None else {"image/group": record(batch, batch.group_keys)}
            ),
            "image/label": record(batch, labels),
            "image/correct": record(batch, (seen.rank == 0).to(torch.float64)),
            "image/confidence": record(batch, seen.confidence),
            "image/nll": record(batch, seen.nll),
            "image/brier": record(batch, seen.brier),
            **self._keep_logits(batch, logits, labels),
        }

    def summarize(self, total: Sums) -> StudyResult:
        """Return the errors with intervals, the bins before and after, and what they amount to.

        Raises:
            ValueError: no image was seen.
        """
        images = int(total["images"]) if total else 0
        if not images:
            raise ValueError("calibration: no image was seen")
        seen = _read_images(total)
        left_out = images - seen.images
        told = f"{left_out} of {images} images have no finite logits and are left out"
        if not seen.images:
            names = [name for name in self.metrics if not name.startswith("bin_")]
            return StudyResult(rows=tuple(_row(name, math.nan, images, told) for name in names))
        table = seen.tabulate(self.bins)
        scaling = self._scale(total, seen)
        before = table if self.split == "hash" else scaling.before.tabulate(self.bins)
        after = scaling.after.tabulate(self.bins) if scaling.after else None
        rows = [
            *_find_errors(seen, table, total["class_bins"]),
            *_find_scaled(scaling, after),
            *(() if before is table else _find_unscaled(before, scaling.before)),
            *_find_bins(table.rules["right"]),
            *(_find_bins(after.rules["right"], scaled="temperature") if after else ()),
        ]
        if left_out:
            rows = [replace(each, reason=_join(each.reason, told)) for each in rows]
        verdicts = (_judge(table), _judge_scaling(scaling, before, after))
        return StudyResult(rows=tuple(rows), verdicts=verdicts)

    def _keep_logits(self, batch: Batch, logits: Tensor, labels: Tensor) -> Sums:
        """Return the logits as a record or, where they are too many, losses by half."""
        if batch.count * logits.shape[1] <= LOGITS_KEPT:
            return {"image/logits": record(batch, logits.to(torch.float32))}
        units = batch.keys if batch.group_keys is None else batch.group_keys
        half = self._halve(units, batch.positions, batch.count)
        parts = [(logits[half == side], labels[half == side]) for side in (0, 1)]
        return {
            "losses": torch.stack([sum_losses(*part, GRID) for part in parts]),
            "fitted": torch.tensor([count_fitted(*part) for part in parts]),
        }

    def _halve(self, units: Tensor, positions: Tensor, count: int) -> Tensor:
        """Return which half, 0 or 1, each image belongs to; a group is not divided."""
        units = units if units.ndim == 1 else units[:, 0]
        return units & 1 if self.split == "hash" else (positions >= count // 2).long()

    def fitted(self, total: Sums) -> Mapping[int, Fit]:
        """Return, for each half that is scored, the temperature fitted on the other."""
        return self._scale(total, _read_images(total)).fits

    def _scale(self, total: Sums, seen: Scored) -> Scaling:
        """Return what each half's temperature makes of the images it was not fitted on."""
        used = total["image/usable"].bool()
        half = self._halve(_units_of(total), torch.arange(len(used)), len(used))[used]
        fitted = (0, 1) if self.split == "hash" else (0,)
        if "image/logits" not in total:
            return scale_by_curves(seen, total["losses"], total["fitted"], half, fitted)
        logits, labels = total["image/logits"][used], total["image/label"][used]
        return scale_by_logits(seen, logits, labels, half, fitted)


def _units_of(total: Sums) -> Tensor:
    """Return hashes of what is resampled: of each image, or of its groups, [image, way]."""
    return total.get("image/group", total["image/key"])


def _read_images(total: Sums) -> Scored:
    """Return the records of the images that count."""
    used = total["image/usable"].bool()
    return Scored(
        keys=total["image/key"][used],
        weights=replicate_weights(_units_of(total)[used]),
        confidence=total["image/confidence"][used],
        correct=total["image/correct"][used],
        nll=total["image/nll"][used],
        brier=total["image/brier"][used],
    )


def _find_errors(seen: Scored, table: Table, class_bins: Tensor) -> Iterator[Row]:
    """Yield what the confidences are like as they are."""
    right, images = table.rules["right"], seen.images
    worst = int(right.gaps[0].argmax())
    place = (
        f"in bin {worst + 1} of {right.gaps.shape[1]}, which holds {int(right.images[0, worst])}"
    )
    yield _error_row("ece", right, images)
    yield _error_row("ece_left", table.rules["left"], images)
    yield _error_row("ece_mass", table.rules["mass"], images)
    yield _row("ece_floor", right.floor(), images)
    yield _row("calibrated_p", right.calibrated_p(), images, TESTED)
    yield _row("mce", right.gaps.amax(-1)[0], images, _join(place, UNCOVERED))
    yield _row("rmsce", right.root_mean_square()[0], images, UNCOVERED)
    yield _row("rmsce_debiased", right.debiased_root_mean_square()[0], images, UNCOVERED)
    yield _row("classwise_ece", join_classes(class_bins).error()[0], images, UNCOVERED)
    few = _few_wrong(seen)
    yield _row("nll", table.nll, images, withheld=few)
    yield _row("brier", table.brier, images, withheld=few)
    yield _row("confidence", table.confidence, images)
    yield _row("aurc", seen.area_under_risk(), images, withheld=few)


def _find_scaled(scaling: Scaling, after: Table | None) -> Iterator[Row]:
    """Yield the temperature, and the errors with it."""
    images, why, few = scaling.before.images, scaling.problem or FIXED, _few_wrong(scaling.before)
    wrong = images - int(scaling.before.correct.sum())
    bound = "the search ended at a bound" if any(fit.note for fit in scaling.fits.values()) else ""
    if wrong < LEAST_WRONG_TO_FIT:
        bound = f"with fewer than {LEAST_WRONG_TO_FIT} wrong answers it would not cover"
    temperature = scaling.temperature if scaling.replicates is None else scaling.replicates
    yield _row("temperature", temperature, scaling.fitted, scaling.notes, withheld=bound)
    if after is None:
        yield _row("ece_scaled", math.nan, images, why)
        yield _row("calibrated_p_scaled", math.nan, images, why)
        yield _row("nll_scaled", scaling.nll, images, why)
        return
    right = after.rules["right"]
    yield _error_row("ece_scaled", right, images, why)
    yield _row("calibrated_p_scaled", right.calibrated_p(), images, TESTED)
    yield _row("nll_scaled", after.nll, images, why, withheld=few)


def _find_unscaled(table: Table, scored: Scored) -> Iterator[Row]:
    """Yield the errors without the temperature on the images that it scores."""
    yield _error_row("ece_unscaled", table.rules["right"], scored.images)
    yield _row("nll_unscaled", table.nll, scored.images, withheld=_few_wrong(scored))


def _few_wrong(scored: Scored) -> str:
    """Return why the interval of a loss would not cover: no other wrong answers tell how large."""
    wrong = scored.images - int(scored.correct.sum())
    return "" if wrong >= LEAST_WRONG else FEW_WRONG


def _find_bins(bins: Bins, **at: str) -> Iterator[Row]:
    """Yield images, mean confidence and accuracy of each bin, from 1; null where it is empty."""
    columns = torch.stack((bins.images[0], bins.confidence[0], bins.correct[0]), dim=1)
    for number, (images, confidence, correct) in enumerate(columns.tolist(), start=1):
        place: dict[str, int | str] = {"bin": number, **at}
        count = int(images)
        yield _row("bin_images", images, count, "a count", place)
        if not count:
            yield _row("bin_confidence", math.nan, 0, "no image in this bin", place)
            yield _row("bin_accuracy", math.nan, 0, "no image in this bin", place)
            continue
        low, high = wilson_interval(correct, images)
        yield _row("bin_confidence", confidence / images, count, "mean over the bin", place)
        accuracy = _row("bin_accuracy", correct / images, count, "Wilson interval", place)
        yield replace(accuracy, low=low, high=high)


def _judge(table: Table) -> Verdict:
    """Return whether the model is calibrated and, if not, to which side it errs.

    A one-sided test at FALSE_ALARMS of the error against that of a calibrated model with the same
    confidences.
    """
    right = table.rules["right"]
    error, floor = float(right.error()[0]), float(right.floor()[0])
    deviation, p = float(right.floor_deviation()[0]), right.calibrated_p()
    confidence, accuracy = float(table.confidence[0]), float(table.accuracy[0])
    if p >= FALSE_ALARMS:
        verdict = "not distinguishable from calibrated"
    elif abs(confidence - accuracy) < error / 2:
        verdict = "over-confident in some bins, under-confident in others"
    else:
        verdict = "over-confident" if confidence > accuracy else "under-confident"
    reason = _join(
        f"ece {error:.4f}, of a calibrated model {floor:.4f} with standard deviation"
        f" {deviation:.4f}: {show_p(p)}",
        f"mean confidence {confidence:.4f}, accuracy {accuracy:.4f}",
    )
    return Verdict(name="calibration", verdict=verdict, reason=reason)


def show_p(p: float) -> str:
    """Return a p value in words, never smaller than the normal distribution is worth."""
    return f"p = {p:.2g}" if p >= SMALLEST_P else f"p < {SMALLEST_P:g}"


def _judge_scaling(scaling: Scaling, before: Table, after: Table | None) -> Verdict:
    """Return whether the temperature changed the error, by the paired interval."""
    if after is None:
        return Verdict(name="temperature", verdict="not scored", reason=scaling.problem)
    sides = [_estimate(table.rules["right"]) for table in (before, after)]
    if not all(np.isfinite(each.replicates).all() for each in sides):
        return Verdict(name="temperature", verdict="undecided", reason=TOO_FEW)
    change = recovered_difference(*sides)
    verdict = (
        "warning: scaling raised ece"
        if change.low > 0
        else "scaling lowered ece"
        if change.high < 0
        else "scaling changed ece by less than these images show"
    )
    return Verdict(
        name="temperature",
        verdict=verdict,
        reason=_join(
            f"ece {sides[0].value:.4f} -> {sides[1].value:.4f}, paired 95 % interval "
            f"{change.low:+.4f} to {change.high:+.4f}",
            f"nll {float(before.nll[0]):.4f} -> {float(after.nll[0]):.4f}",
            scaling.notes,
            FIXED,
        ),
    )


def _estimate(bins: Bins) -> Estimate:
    values, (low, high) = bins.error().numpy(), bins.error_interval()
    return Estimate(value=float(values[0]), low=low, high=high, replicates=values[1:])


def _error_row(metric: str, bins: Bins, images: int, reason: str = "") -> Row:
    """Return the row of an expected calibration error, with the interval that covers."""
    declared, interval = Calibration.metrics[metric], bins.error_interval()
    return row(metric, bins.error(), images, declared=declared, reason=reason, interval=interval)


def _row(
    metric: str,
    values: Tensor | float,
    images: int,
    reason: str = "",
    at: Mapping[str, int | str] | None = None,
    withheld: str = "",
) -> Row:
    declared = Calibration.metrics[metric]
    return row(metric, values, images, declared=declared, at=at, reason=reason, withheld=withheld)


def _join(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))
