"""Data loading for training: both splits, the order of images, batches and worker processes.

Every random number is a function of the recipe's seed, the epoch and the image's position in it. A
training can therefore resume at any step, with any number of workers and processes, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from illama.distributed import World
from illama.sources import open_source
from illama.sources.source import Source, SourceError
from illama.training.recipe import Recipe, RecipeError
from illama.transforms import ImageError
from illama.workers import load_in_order

LONGEST_GAP = 1000
"""Broken images in a row after which a training image has no substitute."""
_AUGMENTATION, _MIXING, _PATHS, _DROPOUT = 1, 2, 3, 4
"""Purposes of generators, so that no two share their random numbers."""


@dataclass(frozen=True)
class BatchIndices:
    """The indices of a batch's images, before any of them is read."""

    epoch: int
    index: int
    """Index of the micro-batch in its optimizer step."""
    slots: NDArray[np.int64]
    """Positions in the epoch, [image]."""
    positions: NDArray[np.int64]
    """Positions in the source, [image]."""


@dataclass(frozen=True)
class Batch:
    """Prepared images of one pass."""

    images: Tensor
    """float32 [image, 3, row, column]."""
    labels: Tensor
    """True classes, int64: of each image [image], or of each pixel [image, row, column]."""
    positions: NDArray[np.int64]
    index: int
    broken: tuple[tuple[int, str], ...] = ()
    """Positions that could not be read, and why."""

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory, for asynchronous copies to a GPU."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


def open_splits(
    recipe: Recipe, images: int | None = None, test_images: int | None = None
) -> tuple[Source, Source]:
    """Open the training and the test images of the recipe's source.

    `images` and `test_images` keep that many of each, those of smallest hash.

    Raises:
        SourceError: none is named, it is missing or damaged, or it has no splits, so that the
            test images would be the training images.
    """
    if recipe.data is None:
        raise SourceError(f"recipe {recipe.name} has no default data; pass --data")
    train, test = (open_source(recipe.data, split=split) for split in ("train", "test"))
    if train.ids == test.ids and train.fingerprint == test.fingerprint:
        raise SourceError(
            f"{recipe.data} has no images for testing; give a source with train and test"
        )
    numbers = (images, test_images)
    first, last = (
        split if number is None else split.limit(number, 0)
        for split, number in zip((train, test), numbers, strict=True)
    )
    return first, last


def check_splits(train: Source, test: Source, recipe: Recipe) -> None:
    """Check that training and test masks number the same classes, and that there is a choice.

    Raises:
        SourceError: the names of their classes differ, there is one class, or there are fewer
            training images than classes.
    """
    if train.mask_classes != test.mask_classes:
        only = sorted(set(train.mask_classes or ()) ^ set(test.mask_classes or ()))
        how = f"{only[0]!r} is in only one" if only else "in their order"
        raise SourceError(
            f"{train.name}: the classes of training and test images differ ({how}); give both the "
            "same classes"
        )
    if recipe.classes == 1:
        raise SourceError(f"{train.name}: one class leaves nothing to learn; give two or more")
    if recipe.task == "classification" and len(train) < recipe.classes:
        raise SourceError(
            f"{train.name}: {len(train)} training images for {recipe.classes} classes; give at "
            "least one of each class"
        )


def order_epoch(images: int, recipe: Recipe, epoch: int) -> NDArray[np.int64]:
    """Return the image at each position of an epoch, int64 [image].

    With a shuffle buffer the source's blocks come in random order, and images move by at most a
    buffer's length inside that order, so that shards are read nearly in their order on the disk.
    """
    random = np.random.Generator(np.random.PCG64([recipe.seed, epoch]))
    order = random.permutation(images)
    if 0 < recipe.shuffle_buffer < images:
        blocks = np.array_split(np.arange(images), -(-images // recipe.shuffle_buffer))
        stream = np.concatenate([blocks[k] for k in random.permutation(len(blocks))])
        moved = np.arange(images) + random.uniform(0, recipe.shuffle_buffer, images)
        order = stream[np.argsort(moved)]
    return np.repeat(order, recipe.repeats)[:images]


def count_passes(recipe: Recipe, processes: int) -> int:
    """Return the number of micro-batches in an optimizer step.

    Raises:
        RecipeError: it is smaller than the number of processes.
    """
    size = recipe.micro_batch or -(-recipe.batch_size // processes)
    passes = -(-recipe.batch_size // size)
    if passes < processes:
        raise RecipeError(
            f"recipe {recipe.name}: a batch of {recipe.batch_size} in micro-batches of {size} does"
            f" not fill {processes} processes; lower micro_batch or raise batch_size"
        )
    return passes


def draw_batches(
    images: int, recipe: Recipe, first: int, last: int, world: World
) -> Iterator[BatchIndices]:
    """Yield this process's micro-batches of the optimizer steps `first` to `last`, exclusive.

    Each step's images are distributed over its micro-batches in turn, and these over processes.
    """
    passes, per_epoch = count_passes(recipe, world.size), images // recipe.batch_size
    epoch, order = -1, np.arange(0)
    for step in range(first, last):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = order_epoch(images, recipe, epoch)
        start = step % per_epoch * recipe.batch_size
        slots = np.arange(start, start + recipe.batch_size)
        for index in range(world.rank, passes, world.size):
            own = slots[index::passes]
            yield BatchIndices(epoch, index, own, order[own])


def shard_test(images: int, batch_size: int, world: World) -> list[BatchIndices]:
    """Return this process's share of the test images, each image once over all processes."""
    own = world.positions(images)
    parts = np.array_split(own, max(1, -(-len(own) // batch_size)))
    return [BatchIndices(0, index, part, part) for index, part in enumerate(parts) if len(part)]


def generator(seed: int, first: int, second: int, purpose: int) -> np.random.Generator:
    """Return the generator for one purpose at one point of a training."""
    return np.random.Generator(np.random.PCG64([seed, first, second, purpose]))


def mixing_generator(recipe: Recipe, step: int, index: int) -> np.random.Generator:
    """Return the generator for the mixup of a micro-batch."""
    return generator(recipe.seed, step, index, _MIXING)


def path_generator(recipe: Recipe, step: int, index: int) -> np.random.Generator:
    """Return the generator for the dropped paths of a micro-batch."""
    return generator(recipe.seed, step, index, _PATHS)


def dropout_seed(recipe: Recipe, step: int, index: int) -> int:
    """Return the seed for the dropout of a micro-batch."""
    return int(generator(recipe.seed, step, index, _DROPOUT).integers(2**63))


@dataclass(frozen=True)
class ImageDataset(Dataset[Batch]):
    """Prepares the batches of given indices; runs in loader workers."""

    source: Source
    prepare: Callable[[NDArray[np.uint8], np.random.Generator], Tensor]
    seed: int
    substitutes: bool
    """Whether a broken image is replaced by the next one that can be read."""

    def __getitem__(self, indices: BatchIndices) -> Batch:
        """Read and prepare the images."""
        kept, pixels, truths = [], [], []
        broken: dict[int, str] = {}
        for slot, position in zip(indices.slots, indices.positions, strict=True):
            for offset in range(LONGEST_GAP if self.substitutes else 1):
                taken = int(position + offset) % len(self.source)
                random = generator(self.seed, indices.epoch, int(slot), _AUGMENTATION)
                try:
                    seen, truth = self.read_example(taken, random)
                except ImageError as error:
                    broken[taken] = str(error)
                    continue
                pixels.append(seen)
                truths.append(truth)
                kept.append(taken)
                break
        return Batch(
            images=torch.stack(pixels) if pixels else torch.empty(0),
            labels=torch.stack(truths) if truths else torch.empty(0, dtype=torch.int64),
            positions=np.array(kept, np.int64),
            index=indices.index,
            broken=tuple(broken.items()),
        )

    def read_example(self, position: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return a prepared image [3, row, column] and its class.

        Raises:
            ImageError: the image cannot be read.
        """
        assert self.source.labels is not None
        image = self.source.read(position)
        return self.prepare(image, random), torch.tensor(self.source.labels[position])


def load_batches(
    dataset: ImageDataset,
    indices: Iterator[BatchIndices] | list[BatchIndices],
    workers: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Yield prepared batches in order, read ahead by worker processes if there are any.

    Raises:
        LoaderError: a worker ended or hung.
    """
    yield from load_in_order(dataset, indices, workers, pin=device.type == "cuda")
