"""A model with a classifier on its frozen features, as a subject that the normal pipeline measures.

The classifier has been applied to all images before the pass, and the source yields its logits in
place of the images: whatever their features cost, they are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.sources.source import Source
from illama.transforms import ImageError
from illama_eval.subjects import SavedPredictions, Subject


@dataclass(frozen=True, kw_only=True)
class Probed(SavedPredictions):
    """A model with a classifier on its frozen features; the source reads its logits.

    The source yields the logits of all subjects, float64 [subject, class], of an image.
    """

    number: int
    """Which of the subjects this is."""

    @property
    def prepare(self) -> Callable[[Any], Tensor]:
        """Turn what the source reads into this subject's logits."""
        return partial(_own_logits, self.number)

    def describe(self) -> dict[str, Any]:
        """Return the description of the model below, under a name of its own."""
        return {**self.provenance, "name": self.name, "classes": self.classes}


def _own_logits(number: int, logits: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(logits[number])


def as_subject(
    base: Subject, probe: str, parameters: Mapping[str, Any], number: int, classes: int
) -> Probed:
    """Return a model with a probe on it as a subject, told by the probe's name and parameters."""
    about = {**base.describe(), "base": base.name, "probe": dict(parameters)}
    return Probed(name=f"{base.name}+{probe}", classes=classes, provenance=about, number=number)


def with_logits(
    source: Source, logits: NDArray[np.float64], unreadable: Sequence[tuple[int, str]]
) -> Source:
    """Return the source with logits [image, subject, class] in place of its images."""
    read: Any = partial(_read_logits, logits, dict(unreadable))
    return replace(source, read=read, in_memory=True)


def _read_logits(
    logits: NDArray[np.float64], unreadable: Mapping[int, str], position: int
) -> NDArray[np.float64]:
    if position in unreadable:
        raise ImageError(unreadable[position])
    place: NDArray[np.float64] = logits[position]
    return place
