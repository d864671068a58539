"""Segmentation: intersection over union of the classes of pixels, in three ways side by side.

IoU of a class = pixels found in it / (pixels predicted or labeled as it), from the pixels of all
images together; mIoU is its mean over the classes that occur (Wang et al. 2024, Table 10, after the
ADE20K protocol). Not the mean over images of each image's own IoU, which is another number. The
paper's is `miou_multiscale`; whole images and sliding windows at one scale stand beside it, each
under its own name. Areas are whole numbers per image and way, so that replicates are sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from illama.observation import Piece, SegmentsSeen, batch_of
from illama.segmentation_metrics import (
    class_accuracy,
    count_areas,
    intersection_over_union,
    pixel_accuracy,
)
from illama_eval.results import Row
from illama_eval.study import Metric, StudyResult, Sums, record, row, weigh

MODES = ("whole", "slide", "multiscale")
"""Ways to segment an image: squeezed into one window, windows at one scale, at several scales and
flipped."""
LEAST_IMAGES = 500
"""Images from which resampling them covers (measured: .92 at 500, .62 to .72 at 30 and 120)."""

AREA = Metric(better="higher", tolerance=5e-3, least_images=LEAST_IMAGES)

ABSENT = "no pixel has this class, and none is given it"
NOWHERE = "no pixel has a class"


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Mean intersection over union and accuracies of pixels, by way and by class."""

    names: tuple[str, ...] = ()
    """Of the classes of pixels, in the order of their numbers."""

    name: ClassVar[str] = "segmentation"
    wants: ClassVar[frozenset[str]] = frozenset({"segments"})
    requires: ClassVar[frozenset[str]] = frozenset({"masks"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        **{f"miou_{mode}": AREA for mode in MODES},
        **{f"pixel_accuracy_{mode}": AREA for mode in MODES},
        **{f"class_accuracy_{mode}": AREA for mode in MODES},
        "iou": Metric(better="higher", least_images=LEAST_IMAGES),
        "pixels": Metric(interval="share"),
    }

    def measure(self, piece: Piece) -> Sums:
        """Return the weighted areas of one way on one batch, and each image's own.

        Raises:
            ValueError: the source has no masks.
        """
        if not isinstance(piece, SegmentsSeen):
            return {}
        batch = batch_of(piece)
        if batch.masks is None:
            raise ValueError("source: has no masks; give an ADE20K folder, or demo-shapes")
        counted = count_areas(piece.predicted, batch.masks, len(self.names))
        return {
            f"{piece.mode}/images": batch.weights.sum(1),
            f"{piece.mode}/areas": weigh(batch, counted),
            f"image/areas_{piece.mode}": record(batch, counted),
        }

    def summarize(self, total: Sums) -> StudyResult:
        """Return mIoU and accuracies of every way, and IoU and share of pixels of every class.

        Raises:
            ValueError: no image was seen.
        """
        modes = [mode for mode in MODES if f"{mode}/areas" in total]
        images = int(total[f"{modes[0]}/images"][0]) if modes else 0
        if not images:
            raise ValueError("segmentation: no image was seen")
        rows = [each for mode in modes for each in self._rows(total[f"{mode}/areas"], mode, images)]
        label = total[f"{modes[0]}/areas"][:, 2]
        for number, name in enumerate(self.names):
            values = label[:, number] / label.sum(1)
            rows.append(self._row("pixels", values, images, {"class": name}, NOWHERE))
        return StudyResult(rows=tuple(rows))

    def _rows(self, areas: Tensor, mode: str, images: int) -> Iterator[Row]:
        """Yield the rows of one way, from areas [201, 3, class]."""
        by_class = intersection_over_union(areas)
        for metric, values in (
            ("miou", by_class.nanmean(1)),
            ("pixel_accuracy", pixel_accuracy(areas)),
            ("class_accuracy", class_accuracy(areas).nanmean(1)),
        ):
            yield self._row(f"{metric}_{mode}", values, images, {}, NOWHERE)
        for number, name in enumerate(self.names):
            at = {"mode": mode, "class": name}
            yield self._row("iou", by_class[:, number], images, at, ABSENT)

    def _row(
        self, metric: str, values: Tensor, images: int, at: Mapping[str, str], why: str
    ) -> Row:
        reason = "" if torch.isfinite(values[0]) else why
        return row(metric, values, images, declared=self.metrics[metric], at=at, reason=reason)
