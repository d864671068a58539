"""What single attention maps are like: entropy of rows, likeness of columns, sinks.

All of it follows from the sums of one pass over the maps; `open` [query, key] says where they can
be non-zero. NaN marks what is left out, so that averages can skip it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from illama_eval.functional.map_pass import ColumnMoments, MapSums

ROUNDING = 1e-6
"""Relative differences below this are float32's rounding, not structure."""

BLOCK_BYTES = 2**20
"""Size of a block of maps in float64 on a CPU, which its cache holds."""

GPU_BLOCK_BYTES = 2**26
"""The same on other devices, where a launch costs more than memory."""


def by_blocks(look: Callable[..., tuple[Tensor, ...]], *maps: Tensor) -> tuple[Tensor, ...]:
    """Return what `look` sees in maps [image, head, query, key], each joined to [map, ...].

    It is shown float64 blocks [map, query, key], so that few float64 copies live at a time.
    """
    room = BLOCK_BYTES if maps[0].device.type == "cpu" else GPU_BLOCK_BYTES
    size = max(1, room // (8 * maps[0].shape[-2] * maps[0].shape[-1]))
    blocks = zip(*(torch.split(part.flatten(0, 1), size) for part in maps), strict=True)
    seen = (look(*(block.to(torch.float64) for block in together)) for together in blocks)
    return tuple(torch.cat(parts) for parts in zip(*seen, strict=True))


def relative_scale(open_: Tensor, factor: Tensor | None) -> Tensor:
    """Return what makes attention relative to uniform attention under the mask, [query, key].

    Equal scores give weights in proportion to the factor after the softmax or, where the mask is
    inside it, one over the row's open keys. Zero where a row may not attend.
    """
    if factor is not None:
        return torch.where(open_, 1 / factor.to(torch.float64), 0.0)
    return open_ * open_.sum(-1, keepdim=True).to(torch.float64)


def column_cosines(moments: ColumnMoments, open_: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines of equal columns, [map, key] each: centred over the open rows, and raw.

    Centred cosines are NaN where a column is constant, raw ones where it is zero.
    """
    rows = open_.sum(0)
    shifted = [total / rows for total in moments.sums]
    means = [mean + shift for mean, shift in zip(shifted, moments.shifts, strict=True)]
    product = moments.products - rows * shifted[0] * shifted[1]
    squares = [
        (square - rows * mean.square()).clamp_min(0)
        for square, mean in zip(moments.squares, shifted, strict=True)
    ]
    wholes = [square + rows * mean.square() for square, mean in zip(squares, means, strict=True)]
    varies = (squares[0] > ROUNDING**2 * wholes[0]) & (squares[1] > ROUNDING**2 * wholes[1])
    centred = product / (squares[0] * squares[1]).sqrt()
    raw = (product + rows * means[0] * means[1]) / (wholes[0] * wholes[1]).sqrt()
    return centred.where(varies, math.nan), raw


def row_entropy(sums: MapSums, open_: Tensor) -> Tensor:
    """Return the entropy of the rows, renormalised, [map, query] in nats.

    NaN for rows with one open key, and for rows whose attention all fell to the mask.
    """
    entropy = (sums.mass.log() - sums.log_mass / sums.mass).clamp_min(0)
    return entropy.where((open_.sum(-1) > 1) & (sums.mass > 0), math.nan)


def strongest_key(sums: MapSums, open_: Tensor, least_rows: int) -> tuple[Tensor, Tensor]:
    """Return the largest mean attention that a key receives from the rows it is open to, and which.

    [map] each. Keys that are open to fewer than `least_rows` are left out; NaN if all are.
    """
    rows = open_.sum(0)
    received = sums.received / rows
    strongest, key = received.where(rows >= least_rows, -math.inf).max(-1)
    return strongest.where(strongest > -math.inf, math.nan), key


def above(values: Tensor, limit: Tensor | float) -> Tensor:
    """Return 1 where a value exceeds the limit, else 0; NaN stays NaN."""
    return (values > limit).to(torch.float64).where(~values.isnan(), math.nan)


def sum_and_number(values: Tensor, finite: Tensor) -> Tensor:
    """Return the sum and the number of what is not left out, [map, 2] of values [map, value].

    The sum is NaN for maps that are not `finite` [map].
    """
    whole = values.nansum(-1).masked_fill(~finite, math.nan)
    return torch.stack((whole, (~values.isnan()).sum(-1)), -1)
