"""The classification task: its model, images, cross-entropy loss and test accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.save import save_checkpoint
from illama.distributed import World
from illama.sources.head import for_head
from illama.sources.source import Source
from illama.training.augmentation import Augmentation
from illama.training.initial import build, transform_of
from illama.training.loader import Batch, ImageDataset
from illama.training.mixup import Mixing, cross_entropy
from illama.training.recipe import Recipe
from illama.training.task import Record, Runs, Scored, TrainingError
from illama.transforms import Transform

_NAMES = {"test_loss": 1, "test_acc1": 100, "test_acc5": 100}


class Classification:
    """One class for each image."""

    def __init__(self) -> None:
        self.transform: Transform | None = None
        """Of the model that was built; stored with its weights."""

    def build(self, recipe: Recipe) -> Any:
        """Return the recipe's model."""
        self.transform = transform_of(recipe)
        return build(recipe)

    def check(self, train: Source, test: Source, recipe: Recipe) -> tuple[Source, Source]:
        """Return both sources with labels in the numbering of the training images' classes.

        Raises:
            TrainingError: one has no labels.
            SourceError: they do not fit the recipe's head, or the test images have other classes.
        """
        for source in (train, test):
            if source.labels is None:
                raise TrainingError(
                    f"{source.name} has no labels to train or test on; give a labeled source"
                )
        own = train.classes
        names = own if own is not None and len(own) == recipe.classes else None
        train = for_head(train, recipe.classes, names)
        return train, for_head(test, recipe.classes, train.classes)

    def dataset(self, source: Source, recipe: Recipe, *, training: bool) -> ImageDataset:
        """Return the images with the recipe's augmentation, or with the evaluation transform."""
        transform = transform_of(recipe)
        vary = (
            Augmentation(recipe, transform)
            if training
            else partial(_without_augmentation, transform)
        )
        return ImageDataset(source, vary, recipe.seed, substitutes=training)

    def score(self, outputs: Tensor, labels: Tensor, mixing: Mixing, recipe: Recipe) -> Scored:
        """Return the cross-entropy, with mixed targets where images are mixed."""
        logits = outputs.float()
        if recipe.mixes:
            targets = mixing.targets(labels, recipe.classes, recipe.label_smoothing)
            loss = cross_entropy(logits, targets)
        else:
            smoothing = recipe.label_smoothing
            loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        return Scored(loss, (logits.argmax(-1) == labels).sum())

    def evaluate(self, runs: Runs, batches: Iterable[Batch], world: World) -> Record:
        """Return loss and accuracies."""
        return loss_and_accuracy(runs, batches, world)

    def save(self, network: Any, path: Path, **about: Any) -> None:
        """Write a model's checkpoint."""
        save_checkpoint(network, path, transform=self.transform, **about)

    def read(self, path: Path, *, ema: bool = False) -> Any:
        """Return the model of a checkpoint."""
        return read_checkpoint(path, ema=ema).model


def _without_augmentation(
    transform: Transform, image: NDArray[np.uint8], _: np.random.Generator
) -> Tensor:
    """Return the image after the evaluation transform; the generator is not used."""
    return transform(image)


@torch.no_grad()
def loss_and_accuracy(runs: Runs, batches: Iterable[Batch], world: World) -> Record:
    """Return `test_loss` (nats) and `test_acc1`, `test_acc5` (percent) of each run, in fp32.

    An image is correct within top k if fewer than k classes have a larger logit.
    """
    device, images = world.device, 0
    sums = torch.zeros(len(runs), 3, dtype=torch.float64, device=device)
    for batch in batches:
        if not len(batch.images):
            continue
        pixels = batch.images.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        images += len(labels)
        for index, run in enumerate(runs.values()):
            logits = run(pixels)
            loss = functional.cross_entropy(logits, labels, reduction="none")
            rank = (logits > logits.gather(1, labels[:, None])).sum(-1)
            parts = (loss.double().sum(), (rank < 1).sum(), (rank < 5).sum())  # noqa: PLR2004 - top-5
            sums[index] += torch.stack([part.double() for part in parts])
    total = world.add(torch.cat((sums.new_full((1,), images), sums.flatten()))).cpu()
    count = total[0].item()
    rows = total[1:].view(-1, 3).tolist()
    return {
        f"{name}{ending}": scale * value / count
        for ending, row in zip(runs, rows, strict=True)
        for (name, scale), value in zip(_NAMES.items(), row, strict=True)
    }
