"""What is learned from which features: the choices of a probe, and its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.sources.source import Source
from illama_eval.features import Features, Kind
from illama_eval.linear_probe import HELD_OUT
from illama_eval.neighbours import TEMPERATURE
from illama_eval.subjects.subject import SubjectError

Probe: TypeAlias = Literal["linear", "knn"]
Shots: TypeAlias = "int | Literal['all']"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Which classifier, on which features, of how many images."""

    probe: Probe
    kind: Kind = "class"
    grid: tuple[float, ...] = ()
    """Values of C of a linear probe."""
    neighbours: tuple[int, ...] = ()
    """Values of k; the first is the classifier's."""
    shots: tuple[Shots, ...] = ()
    """Training images per class of a few-shot curve."""
    draws: int = 5
    """Draws of so many images; `all` has one."""
    seed: int = 0

    def parameters(self) -> dict[str, Any]:
        """Return what decides the result, as JSON reads it back."""
        own: dict[str, Any] = (
            {"grid": list(self.grid), "held_out": HELD_OUT}
            if self.probe == "linear"
            else {"neighbours": list(self.neighbours), "temperature": TEMPERATURE}
        )
        drawn = {"shots": list(self.shots), "draws": self.draws} if self.shots else {}
        return {"probe": self.probe, "features": self.kind, "seed": self.seed, **own, **drawn}


@dataclass(frozen=True, kw_only=True)
class Set:
    """Images with their features, those that were read alone."""

    features: Tensor
    """float32 [image, channel]"""
    labels: Tensor
    """int64 [image]"""
    ids: tuple[str, ...]
    places: NDArray[np.int64]
    """Where each image stands in the source."""

    def part(self, places: NDArray[np.int64]) -> Set:
        """Return some of the images."""
        index = torch.from_numpy(places).to(self.labels.device)
        return Set(
            features=self.features[index],
            labels=self.labels[index],
            ids=tuple(self.ids[place] for place in places),
            places=self.places[places],
        )


def make_set(source: Source, features: Features, device: torch.device) -> Set:
    """Return a source's readable images with their features, on the device."""
    assert source.labels is not None
    gone = {place for place, _ in features.unreadable}
    places = np.array([i for i in range(len(source)) if i not in gone], dtype=np.int64)
    return Set(
        features=torch.from_numpy(np.array(features.values[places])).to(device),
        labels=torch.from_numpy(source.labels[places]).to(device),
        ids=tuple(source.ids[place] for place in places),
        places=places,
    )


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one model's features are to be used for."""

    name: str
    """Of the model."""
    train: Set
    test: Set
    classes: int
    own: Tensor | None = None
    """The place of each test image among the training images, where they are the same."""
    unreadable: int = 0
    """Training images that could not be read, and are left out."""

    def check(self, choices: Choices) -> None:
        """Refuse features and classes of which no classifier can be made.

        Raises:
            SubjectError: features are not finite, a class has no image, or too few images.
        """
        bad = int((~self.train.features.isfinite().all(1)).sum())
        if bad:
            raise SubjectError(
                f"{self.name}: features of {bad} training images are not finite; check the "
                "checkpoint, or use --dtype fp32"
            )
        check_amounts(self.train.labels, self.classes, choices, left_out=self.own is not None)


def check_amounts(labels: Tensor, classes: int, choices: Choices, *, left_out: bool) -> None:
    """Refuse training images that are too few for what is chosen.

    Raises:
        SubjectError: there is one class, one has no image, or more shots or neighbours are asked
            for than there are images.
    """
    counts = torch.bincount(labels, minlength=classes)
    least, rarest = int(counts.min()), int(counts.argmin())
    if classes < 2:  # noqa: PLR2004 - one class needs no classifier
        raise SubjectError("there is one class; a probe needs two or more")
    if not least:
        raise SubjectError(f"class {rarest} has no training image; name others with --train-data")
    most = max([0, *(each for each in choices.shots if each != "all")])
    if most > least:
        raise SubjectError(f"--shots {most}: class {rarest} has {least} training images")
    left = len(labels) - left_out
    if choices.neighbours and max(choices.neighbours) > left:
        raise SubjectError(
            f"--neighbours {max(choices.neighbours)}: each image has {left} training images to "
            "choose from"
        )
