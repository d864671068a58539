"""Signal to noise: how far what a model computes is from a reference's."""

from __future__ import annotations

from torch import Tensor

from illama.observation import Batch
from illama_eval.study import weigh

NO_NOISE = "the two are equal: there is no noise"


def signal_and_noise(batch: Batch, reference: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted sums of |reference|^2 and |values - reference|^2, float64 [1 + 200] each.

    Both are float64 [image, ...]; the squares of an image are summed over all its other axes.
    """
    axes = tuple(range(1, reference.ndim))
    squares = (reference.square(), (values - reference).square())
    signal, noise = (weigh(batch, each.sum(axes)) for each in squares)
    return signal, noise


def decibels(signal: Tensor, noise: Tensor) -> Tensor:
    """Return 10 log10(signal / noise); infinite where there is no noise."""
    return 10 * (signal / noise).log10()
