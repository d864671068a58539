"""What a training teaches: which network, seen through which pictures, by which loss."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from illama.augmentation import Augmentation
from illama.batches import Batch, Pictures
from illama.checkpoint.load import read_checkpoint, save_checkpoint
from illama.distributed import World
from illama.evaluation import Record, Runs, evaluate
from illama.mixing import Mixing, cross_entropy
from illama.recipe import Recipe
from illama.sources.source import Source
from illama.start import build
from illama.transforms import Transform, evaluation_transform


class TrainingError(ValueError):
    """A training that cannot start or go on; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 3


class Scored(NamedTuple):
    """What one micro-batch came to."""

    loss: Tensor
    """Mean over the images, with gradient."""
    hits: Tensor
    """Images whose answer is right; of segmentation, shares of right pixels, summed."""


class Task(Protocol):
    """What differs between classification and segmentation; everything else is the one loop's."""

    def build(self, recipe: Recipe) -> Any:
        """Return the network that the training begins with."""
        ...

    def check(self, source: Source, recipe: Recipe) -> Source:
        """Return the source in the numbering of the recipe's classes, or refuse it.

        Raises:
            TrainingError: it cannot teach this task.
            SourceError: its labels do not fit.
        """
        ...

    def pictures(self, source: Source, recipe: Recipe, *, training: bool) -> Pictures:
        """Return what a training sees of the images, varied, or a test, plain."""
        ...

    def score(self, outputs: Any, labels: Tensor, mixing: Mixing, recipe: Recipe) -> Scored:
        """Return loss and hits of a network's outputs on a micro-batch."""
        ...

    def evaluate(self, runs: Runs, batches: Iterable[Batch], world: World) -> Record:
        """Return the numbers of the log that the test images show."""
        ...

    def save(self, network: Any, path: Path, **about: Any) -> None:
        """Write a checkpoint; keywords as `illama.checkpoint.load.save_checkpoint`."""
        ...

    def read(self, path: Path, *, ema: bool = False) -> Any:
        """Return the network of a checkpoint."""
        ...


class Classification:
    """One class for each image."""

    def build(self, recipe: Recipe) -> Any:
        """Return the recipe's model."""
        return build(recipe)

    def check(self, source: Source, recipe: Recipe) -> Source:
        """Return the source in the numbering of the recipe's head.

        Raises:
            TrainingError: it has no labels.
            SourceError: they do not fit.
        """
        if source.labels is None:
            raise TrainingError(f"{source.name} has no labels to train on or to test with")
        return source.for_head(recipe.classes)

    def pictures(self, source: Source, recipe: Recipe, *, training: bool) -> Pictures:
        """Return the images as the recipe varies them, or as the evaluation sees them."""
        transform = evaluation_transform(recipe.image_size)
        vary = Augmentation(recipe, transform) if training else partial(_plainly, transform)
        return Pictures(source, vary, recipe.seed, substitutes=training)

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
        return evaluate(runs, batches, world)

    def save(self, network: Any, path: Path, **about: Any) -> None:
        """Write a model's checkpoint."""
        save_checkpoint(network, path, **about)

    def read(self, path: Path, *, ema: bool = False) -> Any:
        """Return the model of a checkpoint."""
        return read_checkpoint(path, ema=ema).model


def _plainly(transform: Transform, image: NDArray[np.uint8], _: np.random.Generator) -> Tensor:
    """Return what the evaluation sees, which draws nothing."""
    return transform(image)


def task_of(recipe: Recipe) -> Task:
    """Return the recipe's task."""
    if recipe.task == "classification":
        return Classification()
    from illama.segmentation_task import Segmentation  # noqa: PLC0415 - most trainings need no UperNet

    return Segmentation()
