"""What a training teaches: which network, seen through which pictures, by which loss."""

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
the epoch's steps, `test_...` holds at `test_soft_mask_rate`, the mask of the last step.
`test_..._at_0` is our own: the same at soft mask 0, as the model will run."""

Runs = Mapping[str, Callable[[Tensor], Tensor]]
"""What is evaluated, from images to logits, by the ending that its names get in the log."""


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

    def dataset(self, source: Source, recipe: Recipe, *, training: bool) -> ImageDataset:
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
