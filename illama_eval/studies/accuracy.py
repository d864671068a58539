"""Accuracy: how often the true class is the first, or among the first five, and the log loss.

top1 = mean[rank = 0], top5 = mean[rank < 5], nll = mean[-log p(true class)], where p counts as no
less than 1e-12 (27.6 nats), and rank counts the classes placed before the true one. Equal logits
are ordered by class index, so constant logits score what always answering class 0 scores, on every
device. Images whose logits are no distribution (NaN, infinity) stay in the denominator: they are
wrong, at the largest log loss. Of five classes or fewer every answer is among the first five, so
that top5 is not reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from illama.observation import OutputSeen, Piece, batch_of
from illama_eval.functional.predictions import FEW_WRONG, LEAST_WRONG, logits_and_labels, predict
from illama_eval.results import Row, Verdict
from illama_eval.study import Metric, StudyResult, Sums, record, row, weigh

FEW = 5
"""How many guesses top5 allows."""

ALL = "there are five classes or fewer: every answer is among the first five"

ENOUGH = 30
"""Images below which chance explains almost any accuracy."""
NO_BETTER = "no better than chance"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 and top-5 accuracy and log loss over all images."""

    name: ClassVar[str] = "accuracy"
    wants: ClassVar[frozenset[str]] = frozenset({"logits"})
    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    counts_unreadable: ClassVar[frozenset[str]] = frozenset({"top1", "top5"})
    """Shares of right answers: an image that cannot be read could count as wrong."""
    metrics: ClassVar[Mapping[str, Metric]] = {
        "top1": Metric(better="higher", tolerance=1e-3, interval="wilson"),
        "top5": Metric(better="higher", tolerance=1e-3, interval="wilson"),
        "nll": Metric(unit="nats", better="lower", tolerance=5e-3),
        "nonfinite": Metric(unit="images", better="lower"),
    }

    def measure(self, piece: Piece) -> Sums:
        """Return weighted hits and losses of one batch, and each image's own values.

        Raises:
            ValueError: the source has no labels.
        """
        if not isinstance(piece, OutputSeen):
            return {}
        logits, labels = logits_and_labels(piece)
        seen, batch = predict(logits, labels), batch_of(piece)
        return {
            "images": batch.weights.sum(1),
            "top1": weigh(batch, seen.rank == 0),
            "top5": weigh(batch, seen.rank < FEW),
            "chance": torch.tensor(batch.size / logits.shape[1], dtype=torch.float64),
            "few_classes": torch.tensor(batch.size if logits.shape[1] <= FEW else 0),
            "nll": weigh(batch, seen.nll),
            "nonfinite": (~seen.usable).sum(),
            "image/seen": record(batch, torch.ones_like(labels)),
            "image/label": record(batch, labels),
            "image/prediction": record(batch, seen.prediction),
            "image/confidence": record(batch, seen.confidence),
            "image/nll": record(batch, seen.nll),
            "image/rank": record(batch, seen.rank),
        }

    def summarize(self, total: Sums) -> StudyResult:
        """Return top1, top5, nll with intervals, and how many images had no usable logits.

        Raises:
            ValueError: no image was seen.
        """
        images = int(total["images"][0]) if total else 0
        if not images:
            raise ValueError("accuracy: no image was seen")
        broken = int(total["nonfinite"])
        told = f"{broken} of {images} images have no finite logits and count as wrong"
        wrong = images - int(total["top1"][0])
        few = "" if wrong >= LEAST_WRONG else FEW_WRONG
        rows = []
        for metric in ("top1", "top5", "nll"):
            values, reason = total[metric] / total["images"], told if broken else ""
            if metric == "top5" and total["few_classes"]:
                values, reason = torch.full_like(values, math.nan), ALL
            declared, withheld = self.metrics[metric], few if metric == "nll" else ""
            rows.append(
                row(metric, values, images, declared=declared, reason=reason, withheld=withheld)
            )
        count = row("nonfinite", broken, images, declared=self.metrics["nonfinite"])
        verdicts = _find_chance(rows[0], float(total["chance"]) / images)
        return StudyResult(rows=(*rows, count), verdicts=tuple(verdicts))


def _find_chance(top1: Row, chance: float) -> Iterator[Verdict]:
    """Yield a verdict if no better than chance is shown, on images enough to show it.

    Classes that merely are as many as the head's give such an accuracy, whatever the model.
    """
    if top1.value is None or top1.low is None or top1.high is None or top1.images < ENOUGH:
        return
    if top1.low <= chance < 1:  # of one class there is but one answer
        numbers = f"top1 {top1.value:.3f} ({top1.low:.3f} to {top1.high:.3f}), chance {chance:.3g}"
        yield Verdict(name="chance", verdict=NO_BETTER, reason=numbers)
