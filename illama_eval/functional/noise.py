"""Signal to noise: how far what a model computes is from a reference's."""

from __future__ import annotations

from torch import Tensor

NO_NOISE = "the two are equal: there is no noise"


def decibels(signal: Tensor, noise: Tensor) -> Tensor:
    """Return 10 log10(signal / noise); infinite where there is no noise."""
    return 10 * (signal / noise).log10()
