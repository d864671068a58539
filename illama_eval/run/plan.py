"""The batches of one process, and what is known of their images, on the device they go to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.distributed import World
from illama.observation import Batch
from illama.sources.source import Source, hash_order
from illama.transforms import Transform, look_up
from illama_eval.bootstrap import keys_of, keys_of_groups
from illama_eval.run.loader import ImageReader, LoadedBatch, load_batches
from illama_eval.subjects.subject import Subject


class BatchPlan:
    """The batches of one process: loaded, described and normalised for each subject.

    What depends on a position alone is made once, and is on the device before the first batch.

    Raises:
        ResultError: the folder of the cache cannot be made.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        source: Source,
        batch_size: int,
        world: World | None = None,
        *,
        masked: bool = False,
        background: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.source = source
        self.device = subjects[0].device
        prepares = tuple(subject.prepare for subject in subjects)
        self.reader = ImageReader(
            source,
            prepares,
            masked=masked,
            background=background and source.background is not None,
            cache=cache,
        )
        mine = (world or World()).positions(len(source))
        self.batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
        self.order = torch.from_numpy(hash_order(source.ids))
        """Rank of each image's hash in the source, int64 [images], on the CPU."""
        self.by_order = self.order.argsort()
        """Position of the image at each rank, int64 [images], on the CPU."""
        self.keys = keys_of(source.ids)
        """64-bit hash of each image, int64 [images], on the CPU."""
        self._colors = tuple(
            each.colors.to(self.device) if isinstance(each, Transform) else None
            for each in prepares
        )
        tables = {
            "labels": _kept_labels(source),
            "further_labels": _tensor(source.further_labels),
            "keys": self.keys,
            "group_keys": None if source.groups is None else keys_of_groups(source.groups),
            "cues": _tensor(source.cues),
        }
        self._tables = {
            name: None if table is None else table.to(self.device) for name, table in tables.items()
        }

    def load(self, workers: int, first: int) -> Iterator[LoadedBatch]:
        """Yield the batches from `first` on, on the device, read ahead by worker processes.

        Raises:
            LoaderError: a worker ended or hung.
        """
        return load_batches(self.reader, self.batches[first:], workers, self.device)

    def batch(self, part: LoadedBatch) -> Batch:
        """Return ids, labels and weights of the images, on the device where they are measured.

        Their order stays on the CPU, where images are chosen by it.
        """
        tables: dict[str, Any] = {
            name: None if table is None else table[part.index]
            for name, table in self._tables.items()
        }
        return Batch(
            ids=tuple(self.source.ids[i] for i in part.positions.tolist()),
            positions=part.index,
            order=self.order[torch.from_numpy(part.positions)],
            weights=part.weights.double(),
            count=len(self.source),
            masks=part.masks,
            **tables,
        )

    def inputs(self, number: int, part: LoadedBatch) -> Tensor:
        """Return the images as they were prepared for a subject, not yet normalised."""
        return part.inputs[self.reader.input_of[number]]

    def background(self, number: int, part: LoadedBatch) -> Tensor | None:
        """Return which pixels of a subject's inputs are background, where the source says it."""
        return part.background[self.reader.input_of[number]] if part.background else None

    def normalize(self, number: int, inputs: Tensor) -> Tensor:
        """Return prepared images as a subject takes them."""
        colors = self._colors[number]
        return inputs if colors is None else look_up(inputs, colors)


def _tensor(array: NDArray[np.int64] | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


def _kept_labels(source: Source) -> Tensor | None:
    """Return true classes among the kept ones, int64 [images]."""
    labels, subset = source.labels, source.class_subset
    if labels is None or subset is None:
        return _tensor(labels)
    number = {kept: i for i, kept in enumerate(subset)}
    return torch.tensor([number[label] for label in labels.tolist()], dtype=torch.int64)
