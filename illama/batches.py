"""What a training sees: the images of both splits, their order, and how they are shifted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from illama.data import Transform
from illama.recipe import Recipe
from illama.sources import Source, SourceError, open_source


def open_splits(recipe: Recipe) -> tuple[Source, Source]:
    """Open the training and the test images of the recipe's source.

    Raises:
        SourceError: none is named, it is missing or damaged, or it has no splits, so that the test
            would repeat the training.
    """
    if recipe.data is None:
        raise SourceError(f"recipe {recipe.name} brings no images of its own; name them by --data")
    train, test = (open_source(recipe.data, split=split) for split in ("train", "test"))
    if train.fingerprint == test.fingerprint:
        raise SourceError(f"{recipe.data} has no images for testing; give one with train and test")
    return train, test


def draw_batches(
    source: Source, transform: Transform, recipe: Recipe, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield full batches of prepared, shifted images and their labels in the epoch's own order.

    Order and shifts are a function of seed and epoch alone.
    """
    random = np.random.Generator(np.random.PCG64([recipe.seed, epoch]))
    order = random.permutation(len(source))
    for start in range(0, len(source) - recipe.batch_size + 1, recipe.batch_size):
        images, labels = prepare(source, transform, order[start : start + recipe.batch_size])
        yield shift(images, recipe.crop_padding, random), labels


def prepare(
    source: Source, transform: Transform, positions: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Return the images at these positions, float32 [image, 3, row, column], and their labels."""
    assert source.labels is not None
    images = torch.stack([transform(source.read(int(position))) for position in positions])
    return images, torch.from_numpy(source.labels[positions])


def shift(images: Tensor, padding: int, random: np.random.Generator) -> Tensor:
    """Shift each of the images [image, 3, row, column] by up to `padding` pixels on both axes.

    What comes in from outside is 0, the mean colour.
    """
    padded = functional.pad(images, (padding,) * 4)
    side = images.shape[-1]
    top, left = torch.from_numpy(random.integers(0, 2 * padding, (2, len(images)), endpoint=True))
    windows = padded.unfold(2, side, 1).unfold(3, side, 1)
    return windows[torch.arange(len(images)), :, top, left]
