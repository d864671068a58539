"""What the states of tokens are like: outlying norms, massive activations, likeness.

States are [image, token, channel], in float64 where they are summed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from illama.arithmetic import to_numpy

TAIL = 0.9
"""Quantile of an image's norms that, with the median, measures the length of their upper tail."""
FOLDS = math.log(0.5 / (1 - TAIL))
"""Natural log of how many times fewer norms are above that quantile than above the median."""


def outlying_norms(norms: Tensor, ratio: float, lengths: float) -> Tensor:
    """Return 1 where a norm [image, token] is far beyond its image's upper tail, else 0.

    With m the median and q the 90 % quantile of an image's norms, log(n / m) must exceed
    `lengths` times log(q / m), and n / m must exceed `ratio`. Where log norms above the median
    fall off exponentially (a Pareto tail), `false_alarms` tokens pass; lighter tails pass fewer.
    NaN for images that are not finite.
    """
    finite = norms.isfinite().all(-1, keepdim=True)
    sound = norms.where(finite, 1.0)
    levels = torch.linspace(0.5, TAIL, 2, dtype=norms.dtype, device=norms.device)
    median, high = sound.quantile(levels, dim=-1, keepdim=True)
    tail = (high / median).log()
    excess = (sound / median).log()
    outlying: Tensor = (excess > lengths * tail) & (sound > ratio * median)
    return outlying.to(norms.dtype).where(finite, math.nan)


def false_alarms(lengths: float) -> float:
    """Return the share of tokens that a Pareto tail puts beyond so many tail lengths."""
    return 0.5 * math.exp(-FOLDS * lengths)


def massive_activations(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest absolute activation, the median one, and the largest's place, [image].

    The first two are float64, of states in any precision. The place counts through tokens and
    channels, channel by channel (Sun et al. 2024).
    """
    flat = states.abs().flatten(1)
    largest, place = flat.max(-1)
    return largest.to(torch.float64), _median(flat).to(torch.float64), place


def count_of_each(place: Tensor, counted: Tensor, places: int) -> Tensor:
    """Return how many of the counted images have each place, int64 [place].

    `place` and `counted` are [image]; nothing is read back from a GPU.
    """
    counts = torch.zeros(places, dtype=torch.int64, device=place.device)
    return counts.scatter_add_(0, place, counted.to(torch.int64))


def remove_massive(states: Tensor, ratio: float, size: float) -> Tensor:
    """Return states whose massive activations are the median of their channel in their image.

    Massive are those that exceed `size`, and `ratio` times the image's median absolute activation
    (Sun et al. 2024). The dtype stays; all other states are the same bits.
    """
    sizes = states.abs()
    median = _median(sizes.flatten(1))[:, None, None]
    massive = (sizes > ratio * median) & (sizes > size)
    return states.where(~massive, states.median(1, keepdim=True).values)


def _median(values: Tensor) -> Tensor:
    """Return the lower median of each row [row, value], NaN where a value is.

    numpy finds it several times as fast as torch on a CPU; it puts NaN behind all others.
    """
    if values.device.type != "cpu":
        return values.median(-1).values
    middle = (values.shape[-1] - 1) // 2
    numbers = to_numpy(values)
    found = np.partition(numbers, middle, axis=-1)[:, middle]
    return torch.from_numpy(np.where(np.isnan(numbers).any(-1), math.nan, found))


def residual(states: Tensor) -> Tensor:
    """Return |X - mean of tokens| / |X| in Frobenius norms, [image] (Dong et al. 2021).

    0 where all tokens are alike: the states then have rank one.
    """
    centred = states - states.mean(1, keepdim=True)
    left, whole = (each.square().sum((1, 2)) for each in (centred, states))
    return (left / whole).sqrt()
