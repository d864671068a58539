"""Batches of images, read and prepared, ahead of the model if there are worker threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.distributed import World
from illama.observation import Batch
from illama.sources.source import Source, hash_order
from illama.transforms import ImageError
from illama_eval.bootstrap import keys_of, keys_of_groups, weights_of


@dataclass(frozen=True, kw_only=True)
class LoadedBatch:
    """A batch from the loader: one tensor per distinct way to prepare an image."""

    positions: NDArray[np.int64]
    inputs: tuple[Tensor, ...]
    unreadable: tuple[tuple[int, str], ...] = ()
    """Position and reason of each image that could not be read."""
    masks: tuple[Tensor, ...] | None = None
    """Class of each pixel, per image; None unless segments are wanted."""

    def part(self, start: int, size: int) -> LoadedBatch:
        """Return a slice of the readable images."""
        rows = slice(start, start + size)
        return LoadedBatch(
            positions=self.positions[rows],
            inputs=tuple(each[rows] for each in self.inputs),
            masks=None if self.masks is None else self.masks[rows],
        )


class BatchPlan:
    """The batches of one process, each loaded by its number."""

    def __init__(
        self,
        source: Source,
        prepares: Sequence[Callable[[Any], Tensor]],
        batch_size: int,
        world: World | None,
        *,
        masked: bool = False,
    ) -> None:
        self.source = source
        self.masked = masked
        self.distinct = tuple(
            prepare for i, prepare in enumerate(prepares) if prepare not in prepares[:i]
        )
        self.input_of = tuple(self.distinct.index(prepare) for prepare in prepares)
        mine = (world or World()).positions(len(source))
        self.batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def load(self, index: int) -> LoadedBatch:
        """Return one batch, read and prepared."""
        images, masks, positions, unreadable = [], [], [], []
        for position in self.batches[index].tolist():
            try:
                if self.masked:
                    image, mask = self.source.read_pair(position)
                    masks.append(torch.from_numpy(mask.astype(np.int64)))
                else:
                    image = self.source.read(position)
            except ImageError as problem:
                unreadable.append((position, str(problem)))
            else:
                images.append(image)
                positions.append(position)
        inputs = tuple(
            torch.stack([prepare(image) for image in images]) if images else torch.empty(0)
            for prepare in self.distinct
        )
        return LoadedBatch(
            positions=np.array(positions, dtype=np.int64),
            inputs=inputs,
            unreadable=tuple(unreadable),
            masks=tuple(masks) if self.masked else None,
        )

    @cached_property
    def order(self) -> Tensor:
        """Rank of each image's hash in the source, int64 [images]."""
        return torch.from_numpy(hash_order(self.source.ids))

    @cached_property
    def by_order(self) -> Tensor:
        """Position of the image at each rank of `order`, int64 [images]."""
        return self.order.argsort()

    @cached_property
    def keys(self) -> Tensor:
        """64-bit hash of each image, int64 [images]."""
        return keys_of(self.source.ids)

    @cached_property
    def group_keys(self) -> Tensor | None:
        """64-bit hashes of each image's groups, int64 [images, way]; None: all are independent."""
        return None if self.source.groups is None else keys_of_groups(self.source.groups)

    @cached_property
    def cues(self) -> Tensor | None:
        """Categories of shape and texture, int64 [images, 2]."""
        return None if self.source.cues is None else torch.from_numpy(self.source.cues)

    @cached_property
    def labels(self) -> Tensor | None:
        """True classes among the kept ones, int64 [images]."""
        labels, subset = self.source.labels, self.source.class_subset
        if labels is None or subset is None:
            return None if labels is None else torch.from_numpy(labels)
        number = {kept: i for i, kept in enumerate(subset)}
        return torch.tensor([number[label] for label in labels.tolist()], dtype=torch.int64)

    @cached_property
    def further(self) -> Tensor | None:
        """Further true classes of each image, int64 [images, most]; None: each has one."""
        further = self.source.further_labels
        return None if further is None else torch.from_numpy(further)

    def batch(self, part: LoadedBatch, device: torch.device) -> Batch:
        """Return ids, labels and weights of the images, on the device where they are measured."""
        positions = part.positions
        index = torch.from_numpy(positions)
        keys = self.keys[index]
        group_keys = None if self.group_keys is None else self.group_keys[index]
        return Batch(
            ids=tuple(self.source.ids[i] for i in positions.tolist()),
            labels=None if self.labels is None else self.labels[index].to(device),
            further_labels=None if self.further is None else self.further[index].to(device),
            positions=index.to(device),
            order=self.order[index].to(device),
            keys=keys.to(device),
            weights=weights_of(keys if group_keys is None else group_keys).to(device),
            group_keys=None if group_keys is None else group_keys.to(device),
            count=len(self.source),
            cues=None if self.cues is None else self.cues[index].to(device),
            masks=part.masks and tuple(mask.to(device) for mask in part.masks),
        )


def load_batches(plan: BatchPlan, workers: int, first: int) -> Iterator[LoadedBatch]:
    """Yield the batches from `first` on, read ahead by threads: decoding releases the GIL."""
    numbers = iter(range(first, len(plan)))
    if not workers:
        yield from map(plan.load, numbers)
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(pool.submit(plan.load, n) for n in islice(numbers, workers + 1))
        try:
            while ahead:
                loaded = ahead.popleft().result()
                ahead.extend(pool.submit(plan.load, n) for n in islice(numbers, 1))
                yield loaded
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
