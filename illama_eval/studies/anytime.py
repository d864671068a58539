"""Anytime accuracy: what a model answers when it is given the first part of the image alone.

The model is given the first 25, 50 or 75 % of the patches in raster order, at their own positions,
and the class token; the others are not there at all. For each share: top-1, the calibration error
over 15 equal bins (as in `calibration`), and the share of images with the answer that the whole
image gets. A bidirectional twin is given the same patches of the same images, so that the
difference of two models is paired. The share 100 % is the plain pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from illama.observation import OutputSeen, Piece, batch_of, present
from illama_eval.functional.predictions import logits_and_labels, predict
from illama_eval.functional.reliability import Bins, bin_by_width
from illama_eval.probe import SHARES, Probe
from illama_eval.results import Row
from illama_eval.study import Metric, StudyResult, Sums, row, weigh

WHOLE = 1.0
BINS = 15
OVER_SHARES = "a mean over the shares of the patches"


@dataclass(frozen=True, kw_only=True)
class Anytime:
    """Accuracy, calibration and agreement with the full answer by share of the patches given."""

    shares: tuple[float, ...] = SHARES
    """Shares of the patches that are given, above 0 and below 1."""

    name: ClassVar[str] = "anytime"
    wants: ClassVar[frozenset[str]] = frozenset({"logits", "closed"})
    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        "prefix_top1": Metric(better="higher", tolerance=1e-2, interval="share"),
        "prefix_agreement": Metric(better="higher", tolerance=1e-2, interval="share"),
        "prefix_ece": Metric(better="lower", tolerance=1e-2, interval="basic"),
    }

    @property
    def probes(self) -> tuple[Probe, ...]:
        """One further pass over all images for each share."""
        return tuple(Probe(rest="closed", kept=(share,), images=None) for share in self.shares)

    def measure(self, piece: Piece) -> Sums:
        """Return weighted hits, agreements and bins of one share.

        Raises:
            ValueError: the source has no labels.
        """
        if not isinstance(piece, OutputSeen):
            return {}
        batch, share, full = batch_of(piece), WHOLE, piece
        if piece.changed is not None:
            assert isinstance(piece.changed.original, OutputSeen)
            names = {probe.name: probe.kept[0] for probe in self.probes}
            share, full = names[piece.changed.probe], piece.changed.original
        logits, labels = logits_and_labels(piece)
        seen = predict(logits, labels)
        whole = present(full.logits, "logits").argmax(-1)
        right = (seen.rank == 0).to(torch.float64)
        places = bin_by_width(seen.confidence, BINS)
        bins = torch.nn.functional.one_hot(places, BINS).to(torch.float64)
        sure = seen.confidence
        per_bin = torch.stack((torch.ones_like(sure), sure, right, sure * (1 - sure)), 1)
        found = {
            "images": batch.weights.sum(1),
            "prefix_top1": weigh(batch, right),
            "prefix_agreement": weigh(batch, seen.prediction == whole),
            "bins": weigh(batch, per_bin[:, :, None] * bins[:, None]),
        }
        return {f"{key}/{share:g}": value for key, value in found.items()}

    def summarize(self, total: Sums) -> StudyResult:
        """Return every number by share, and its mean over the shares below one.

        Raises:
            ValueError: no image was seen.
        """
        if not total:
            raise ValueError("anytime: no image was seen")
        shares = [share for share in (*self.shares, WHOLE) if f"images/{share:g}" in total]
        rows: list[Row] = []
        for metric in ("prefix_top1", "prefix_agreement"):
            values = [total[f"{metric}/{share:g}"] / total[f"images/{share:g}"] for share in shares]
            rows += self._rows(metric, shares, values, total)
        bins = [_bins(total[f"bins/{share:g}"]) for share in shares]
        rows += self._ece_rows(shares, bins)
        return StudyResult(rows=tuple(rows))

    def _rows(
        self, metric: str, shares: list[float], values: list[Tensor], total: Sums
    ) -> Iterator[Row]:
        declared, images = self.metrics[metric], int(total[f"images/{shares[0]:g}"][0])
        yield row(metric, _mean(shares, values), images, declared=declared)
        for share, value in zip(shares, values, strict=True):
            yield row(metric, value, images, declared=declared, at=_at(share))

    def _ece_rows(self, shares: list[float], bins: list[Bins]) -> Iterator[Row]:
        declared, images = self.metrics["prefix_ece"], int(bins[0].total[0])
        mean = _mean(shares, [each.error() for each in bins])
        yield row("prefix_ece", mean, images, declared=declared, withheld=OVER_SHARES)
        for share, each in zip(shares, bins, strict=True):
            interval = each.error_interval()
            at = _at(share)
            value = each.error()
            yield row("prefix_ece", value, images, declared=declared, at=at, interval=interval)


def _bins(sums: Tensor) -> Bins:
    """Return the bins of sums [201, (images, confidence, correct, variance), bin]."""
    images, confidence, correct, variance = sums.unbind(1)
    return Bins(images=images, confidence=confidence, correct=correct, variance=variance)


def _mean(shares: list[float], values: list[Tensor]) -> Tensor:
    """Return the mean over the shares below one, or the whole image's where there is none."""
    parts = [value for share, value in zip(shares, values, strict=True) if share < WHOLE]
    return torch.stack(parts or values).mean(0)


def _at(share: float) -> dict[str, int | str]:
    return {"given": f"{100 * share:g} %"}
