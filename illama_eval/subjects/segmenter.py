"""Segmenters as subjects: classes of pixels for the whole image, sliding windows, and scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from illama.arithmetic import DTYPES
from illama.checkpoint.assumptions import Override
from illama.checkpoint.segmenter import read_segmenter
from illama.config import Dtype
from illama.observation import SEGMENTER_WANTED, Piece, SegmentsSeen
from illama.sources.source import Source
from illama.transforms import IMAGENET_MEAN, IMAGENET_STD, color_table, look_up, to_tensor
from illama.upernet import Segmenter, resize
from illama_eval.subjects.subject import SubjectError

DEMO_SEGMENTER = Path(__file__).parents[1] / "demo" / "illama_demo_segmenter.safetensors"
"""The bundled segmenter, trained on the demo's shapes by `illama train segment`."""

STRIDE = 341 / 512
"""Step of the sliding window, as a share of its side."""
RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Scales of the multi-scale test, each also flipped; below 1 the window's side is kept, as in the
tool that the paper tests with (SETR's resize)."""
LONGEST = 4
"""Long side over short side, at most, of an image that is slid over (2048 to 512)."""
WINDOWS = 32
"""Windows in one pass of the network, at most."""


@dataclass(frozen=True, kw_only=True)
class SegmenterSubject:
    """A segmenter with the precision and soft mask it is run with."""

    name: str
    segmenter: Segmenter
    soft_mask: float = 0.0
    dtype: Dtype = "fp32"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    shows: ClassVar[frozenset[str]] = SEGMENTER_WANTED

    @property
    def classes(self) -> int:
        """Classes of pixels."""
        return self.segmenter.segmenter_config.classes

    @property
    def side(self) -> int:
        """Side of the square that the network sees, in pixels."""
        return self.segmenter.config.image_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.segmenter.backbone.class_token.device

    @property
    def prepare(self) -> Any:
        """Turn an image into a tensor, at its own size."""
        return to_tensor

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        """Yield the classes of the pixels of uint8 images [image, 3, row, column], by each mode."""
        del wanted
        pixels = normalize(inputs.to(self.device, non_blocking=True))
        size = pixels.shape[2:]
        square = self._logits(shrink(pixels, (self.side, self.side)))
        yield _seen("whole", resize(square, size))
        plain = self._slide(pixels, 1.0)
        yield _seen("slide", plain)
        total = torch.zeros_like(plain)
        for ratio, weight in _distinct(RATIOS).items():
            for flipped in (False, True):
                image = pixels.flip(3) if flipped else pixels
                repeat = plain if ratio == 1 and not flipped else self._slide(image, ratio)
                found = repeat.softmax(1)
                total += weight * (found.flip(3) if flipped else found)
        yield _seen("multiscale", total)

    def _slide(self, pixels: Tensor, ratio: float) -> Tensor:
        """Return logits at the images' own size, averaged over windows at one scale."""
        scaled = shrink(pixels, scaled_size(pixels.shape[2:], self.side, ratio))
        height, width = scaled.shape[2:]
        corners = [
            (top, left) for top in starts(height, self.side) for left in starts(width, self.side)
        ]
        total = scaled.new_zeros(len(scaled), self.classes, height, width)
        count = scaled.new_zeros(height, width)
        for first in range(0, len(corners), max(1, WINDOWS // len(scaled))):
            chosen = corners[first : first + max(1, WINDOWS // len(scaled))]
            windows = [
                scaled[:, :, top:, left:][:, :, : self.side, : self.side] for top, left in chosen
            ]
            logits = self._logits(torch.cat(windows))
            parts = logits.chunk(len(chosen))
            for (top, left), part in zip(chosen, parts, strict=True):
                total[:, :, top : top + self.side, left : left + self.side] += part
                count[top : top + self.side, left : left + self.side] += 1
        return resize(total / count, pixels.shape[2:])

    def _logits(self, windows: Tensor) -> Tensor:
        """Return float32 logits at the windows' size."""
        found = self.segmenter(windows.to(DTYPES[self.dtype]), self.soft_mask)
        return resize(found.logits.float(), windows.shape[2:])

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return more than any budget: images differ in size and are taken one by one."""
        del wanted
        return 2**62

    def describe(self) -> dict[str, Any]:
        """Return name, provenance, config, soft mask, precision and how images are seen."""
        config = self.segmenter.segmenter_config
        return {
            "name": self.name,
            **self.provenance,
            "config": {**config.backbone.to_dict(), "blocks": list(config.blocks)},
            "classes": self.classes,
            "soft_mask": self.soft_mask,
            "dtype": self.dtype,
            "transform": {
                "window": self.side,
                "stride": stride_of(self.side),
                "short_side": self.side,
                "ratios": list(RATIOS),
                "flipped": True,
                "interpolation": "bilinear, antialiased",
                "mean": list(IMAGENET_MEAN),
                "std": list(IMAGENET_STD),
            },
        }


def open_segmenter(
    path: Path, *, device: torch.device, dtype: Dtype = "fp32", soft_mask: float | None = None
) -> SegmenterSubject:
    """Return a segmenter's checkpoint as a subject.

    Raises:
        CheckpointError: the file is refused, or has no segmentation head.
    """
    found = read_segmenter(path, device=device)
    return SegmenterSubject(
        name=path.stem,
        segmenter=found.segmenter.to(DTYPES[dtype]),
        soft_mask=found.soft_mask if soft_mask is None else soft_mask,
        dtype=dtype,
        provenance={
            "file": path.name,
            "file_sha256": found.file_sha256,
            "weights_sha256": found.sha256,
            "bytes": found.bytes,
            "layout": "illama segmenter",
            "epoch": found.epoch,
            "args": found.args,
            "overrides": _overrides(found.soft_mask, soft_mask),
        },
    )


def _overrides(own: float, given: float | None) -> list[dict[str, str]]:
    """Return that the soft mask of a file was changed, if it was."""
    if given is None or given == own:
        return []
    return [Override(what="soft_mask", value=f"{given:g}", own=f"{own:g}").to_dict()]


def check_masks(source: Source, subjects: Sequence[SegmenterSubject]) -> None:
    """Refuse a source whose masks the subjects cannot be measured by.

    Raises:
        SubjectError: there are no masks, or they have another number of classes.
    """
    if source.masks is None:
        raise SubjectError(
            f"{source.name}: segmentation needs masks, which this source lacks; use an ADE20K"
            " folder, or demo-shapes"
        )
    count = len(source.mask_classes or ())
    unfit = next((each for each in subjects if each.classes != count), None)
    if unfit is not None:
        raise SubjectError(
            f"{source.name} has {count} classes of pixels, {unfit.name} {unfit.classes}; measure it"
            " on images of its own classes"
        )


def normalize(images: Tensor) -> Tensor:
    """Return uint8 images [image, 3, row, column] as the network wants them."""
    table = color_table(IMAGENET_MEAN, IMAGENET_STD)
    return look_up(images, table.to(images.device, non_blocking=True))


def shrink(images: Tensor, size: Sequence[int]) -> Tensor:
    """Return images at another size, bilinear, antialiased where they become smaller."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return functional.interpolate(images, tuple(size), mode="bilinear", antialias=True)


def scaled_size(size: Sequence[int], side: int, ratio: float) -> tuple[int, int]:
    """Return the size at which an image is slid over: short side `side` times ratio, at least."""
    short, long = sorted(size)
    factor = min(side * max(ratio, 1.0) / short, LONGEST * side * max(ratio, 1.0) / long)
    factor = max(factor, side / short)
    height, width = (max(side, round(length * factor)) for length in size)
    return height, width


def stride_of(side: int) -> int:
    """Return the step of a window of this side: 341 for 512."""
    return max(1, round(side * STRIDE))


def starts(length: int, side: int) -> list[int]:
    """Return where windows begin along one side; the last one ends with the image."""
    steps = max(0, math.ceil((length - side) / stride_of(side)))
    return [min(step * stride_of(side), length - side) for step in range(steps + 1)]


def _distinct(ratios: Iterable[float]) -> dict[float, int]:
    """Return the distinct scales once none is below 1, and the count of each."""
    found: dict[float, int] = {}
    for ratio in ratios:
        found[max(ratio, 1.0)] = found.get(max(ratio, 1.0), 0) + 1
    return found


def _seen(mode: str, scores: Tensor) -> SegmentsSeen:
    return SegmentsSeen(mode=mode, predicted=tuple(scores.argmax(1)))
