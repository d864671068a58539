"""Batches of images, read and prepared by worker processes ahead of the model.

Images stay in eight bits until they are on the device, where a table of colours normalises them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.sources.source import Source
from illama.transforms import LEVELS, Geometry, ImageError, Transform
from illama.workers import load_in_order
from illama_eval.bootstrap import keys_of, keys_of_groups, weights_of
from illama_eval.run.crops import CropCache

Prepare = Callable[[Any], Tensor]

WHITE = LEVELS - 1
"""Level of background in a picture of it, which is resized and cropped as the image is."""


@dataclass(frozen=True, kw_only=True)
class LoadedBatch:
    """A batch from the loader: one tensor per distinct way to prepare an image."""

    positions: NDArray[np.int64]
    index: Tensor
    """The positions, int64 [image], where the inputs are."""
    inputs: tuple[Tensor, ...]
    """Of images uint8 [image, 3, row, column], not yet normalised."""
    weights: Tensor
    """Poisson weights, int32 [1 + replicates, image]; row 0 is all ones."""
    unreadable: tuple[tuple[int, str], ...] = ()
    """Position and reason of each image that could not be read."""
    masks: tuple[Tensor, ...] | None = None
    """Class of each pixel, per image; None unless segments are wanted."""
    background: tuple[Tensor, ...] = ()
    """Which pixels of the inputs are background, bool [image, row, column], for each of them; empty
    unless that is wanted."""

    def part(self, start: int, size: int) -> LoadedBatch:
        """Return a slice of the readable images."""
        rows = slice(start, start + size)
        return LoadedBatch(
            positions=self.positions[rows],
            index=self.index[rows],
            inputs=tuple(each[rows] for each in self.inputs),
            weights=self.weights[:, rows],
            masks=None if self.masks is None else self.masks[rows],
            background=tuple(each[rows] for each in self.background),
        )

    def pin_memory(self) -> LoadedBatch:
        """Return the batch in pinned memory, for asynchronous copies to a GPU."""
        return self._moved(Tensor.pin_memory)

    def to(self, device: torch.device) -> LoadedBatch:
        """Return the batch on a device; from pinned memory the copies are not waited for."""
        return self._moved(lambda each: each.to(device, non_blocking=True))

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of the batch until what is queued on the stream is done."""
        masks = (*(self.masks or ()), *self.background)
        for each in (self.index, *self.inputs, self.weights, *masks):
            each.record_stream(stream)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> LoadedBatch:
        return replace(
            self,
            index=move(self.index),
            inputs=tuple(map(move, self.inputs)),
            weights=move(self.weights),
            masks=None if self.masks is None else tuple(map(move, self.masks)),
            background=tuple(map(move, self.background)),
        )


class ImageReader:
    """Reads and prepares images for several subjects; worker processes are given one.

    Raises:
        ResultError: the folder of the cache cannot be made.
    """

    def __init__(
        self,
        source: Source,
        prepares: Sequence[Prepare],
        *,
        masked: bool = False,
        background: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.source = source
        self.masked = masked
        steps = [each.geometry if isinstance(each, Transform) else each for each in prepares]
        self.distinct = tuple(each for i, each in enumerate(steps) if each not in steps[:i])
        """What is done with an image, once for all subjects that want the same."""
        self.input_of = tuple(self.distinct.index(each) for each in steps)
        """Which of them each subject takes."""
        self.background = background and all(isinstance(each, Geometry) for each in self.distinct)
        self._caches = tuple(
            CropCache(cache, each, source.contents)
            if cache is not None and isinstance(each, Geometry)
            else None
            for each in self.distinct
        )
        groups = source.groups
        self._weight_keys = keys_of(source.ids) if groups is None else keys_of_groups(groups)

    def __getitem__(self, positions: NDArray[np.int64]) -> LoadedBatch:
        """Return the images at these positions, without those that cannot be read."""
        images, masks, kept, unreadable = [], [], [], []
        for position in positions.tolist():
            try:
                if self.masked or self.background:
                    image, mask = self.source.read_pair(position)
                    images.append(tuple(prepare(image) for prepare in self.distinct))
                    masks.append(mask)
                else:
                    images.append(self.read(position))
            except ImageError as problem:
                unreadable.append((position, str(problem)))
            else:
                kept.append(position)
        index = torch.tensor(kept, dtype=torch.int64)
        inputs = [torch.stack(each) for each in zip(*images, strict=True)]
        return LoadedBatch(
            positions=index.numpy(),
            index=index,
            inputs=tuple(inputs or [torch.empty(0)] * len(self.distinct)),
            weights=weights_of(self._weight_keys[index]).int(),
            unreadable=tuple(unreadable),
            masks=tuple(map(_as_classes, masks)) if self.masked else None,
            background=self._background_of(masks) if self.background else (),
        )

    def _background_of(self, masks: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, ...]:
        """Return which pixels are background, in each of the ways to prepare an image."""
        found = [np.isin(mask, self.source.background or ()) for mask in masks]
        pictures = [np.repeat(each[..., None], 3, 2).astype(np.uint8) * WHITE for each in found]
        return tuple(
            torch.stack([prepare(picture)[0] > WHITE // 2 for picture in pictures])
            for prepare in self.distinct
            if pictures
        )

    def read(self, position: int) -> tuple[Tensor, ...]:
        """Return an image in each of the distinct ways to prepare it.

        Raises:
            ImageError: it cannot be read.
        """
        found = [None if cache is None else cache.read(position) for cache in self._caches]
        if any(each is None for each in found):
            image = self.source.read(position)
            return tuple(
                self._prepare(which, position, image) if each is None else each
                for which, each in enumerate(found)
            )
        return tuple(each for each in found if each is not None)

    def _prepare(self, which: int, position: int, image: NDArray[np.uint8]) -> Tensor:
        """Return a decoded image in one of the ways, and keep it for later runs."""
        prepared = self.distinct[which](image)
        cache = self._caches[which]
        if cache is not None:
            cache.write(position, prepared)
        return prepared


def _as_classes(mask: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(mask.astype(np.int64))


def load_batches(
    reader: ImageReader, batches: Sequence[NDArray[np.int64]], workers: int, device: torch.device
) -> Iterator[LoadedBatch]:
    """Yield the batches of these positions on the device, read ahead by worker processes.

    On a GPU, the copy of a batch is made while the one before is measured.

    Raises:
        LoaderError: a worker ended or hung.
    """
    on_gpu = device.type == "cuda"
    loaded = load_in_order(reader, batches, min(workers, len(batches)), pin=on_gpu)
    return _copy_ahead(loaded, device) if on_gpu else loaded


def _copy_ahead(batches: Iterator[LoadedBatch], device: torch.device) -> Iterator[LoadedBatch]:
    """Yield each batch on a GPU, after the copy of the next one has begun beside the work there."""
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types
    before: LoadedBatch | None = None
    for batch in batches:
        with torch.cuda.stream(beside):
            copied = batch.to(device)
        if before is not None:
            yield before
        measuring = torch.cuda.current_stream(device)
        measuring.wait_stream(beside)
        copied.record_stream(measuring)
        before = copied
    if before is not None:
        yield before
