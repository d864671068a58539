"""The interface of a training task: its network, images, loss, test numbers and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from illama.distributed import World
from illama.sources.source import Source
from illama.training.loader import Batch, ImageDataset
from illama.training.mixup import Mixing
from illama.training.recipe import Recipe

Record = dict[str, float | int]
"""One line of the log, with the names and units of the released logs: `test_acc1` and `test_acc5`
in percent, `train_class_acc` a fraction (absent where images are mixed); `train_...` are means over
the epoch's steps, `test_...` is measured at `test_soft_mask_rate`, the mask of the last step.
`test_..._at_0` is our own: the same at soft mask 0, with which the model will be run."""

Runs = Mapping[str, Callable[[Tensor], Tensor]]
"""Models to evaluate, from images to logits, by the suffix of their names in the log."""


class TrainingError(ValueError):
    """A training that cannot start or continue; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 3


class Scored(NamedTuple):
    """Loss and hits of one micro-batch."""

    loss: Tensor
    """Mean over the images, with gradient."""
    hits: Tensor
    """Number of correct images; for segmentation, the sum of the shares of correct pixels."""


class Task(Protocol):
    """What differs between classification and segmentation in the training loop."""

    def build(self, recipe: Recipe) -> Any:
        """Return the initial network of the training."""
        ...

    def check(self, train: Source, test: Source, recipe: Recipe) -> tuple[Source, Source]:
        """Return both sources with labels in one numbering, that of the recipe's classes.

        Raises:
            TrainingError: one has no labels or masks for this task.
            SourceError: their labels do not fit.
        """
        ...

    def dataset(self, source: Source, recipe: Recipe, *, training: bool) -> ImageDataset:
        """Return the images, augmented for training, or plain for testing."""
        ...

    def score(self, outputs: Any, labels: Tensor, mixing: Mixing, recipe: Recipe) -> Scored:
        """Return loss and hits of a network's outputs on a micro-batch."""
        ...

    def evaluate(self, runs: Runs, batches: Iterable[Batch], world: World) -> Record:
        """Return the log's numbers on the test images."""
        ...

    def save(self, network: Any, path: Path, **about: Any) -> None:
        """Write a checkpoint; keywords as `illama.checkpoint.save.save_checkpoint`."""
        ...

    def read(self, path: Path, *, ema: bool = False) -> Any:
        """Return the network of a checkpoint."""
        ...
