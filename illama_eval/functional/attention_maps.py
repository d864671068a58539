"""What single attention maps are like: entropy of rows, likeness of columns, sinks; token norms.

Maps are [map, query, key] in float64; `open` [query, key] says where they can be non-zero. NaN
marks what is left out, so that averages can skip it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

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


def column_cosines(left: Tensor, right: Tensor, open_: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines of equal columns, [map, key] each: centred over the open rows, and raw.

    Both maps are zero where they are not open. Centred cosines are NaN where a column is
    constant, raw ones where it is zero.
    """
    rows = open_.sum(0)
    left_mean, left = _centre(left, open_)
    right_mean, right = _centre(right, open_)
    product = (left * right).sum(-2)
    left_square, right_square = left.square().sum(-2), right.square().sum(-2)
    left_whole = left_square + rows * left_mean.square()
    right_whole = right_square + rows * right_mean.square()
    varies = (left_square > ROUNDING**2 * left_whole) & (right_square > ROUNDING**2 * right_whole)
    centred = product / (left_square * right_square).sqrt()
    raw = (product + rows * left_mean * right_mean) / (left_whole * right_whole).sqrt()
    return centred.where(varies, math.nan), raw


def row_entropy(maps: Tensor, open_: Tensor) -> Tensor:
    """Return the entropy of the rows, renormalised, [map, query] in nats.

    NaN for rows with one open key, and for rows whose attention all fell to the mask.
    """
    mass = maps.sum(-1)
    unnormalised: Tensor = torch.special.entr(maps).sum(-1)
    entropy = (unnormalised / mass + mass.log()).clamp_min(0)
    return entropy.where((open_.sum(-1) > 1) & (mass > 0), math.nan)


def strongest_key(maps: Tensor, open_: Tensor, least_rows: int) -> tuple[Tensor, Tensor]:
    """Return the largest mean attention that a key receives from the rows it is open to, and which.

    [map] each. Keys that are open to fewer than `least_rows` are left out; NaN if all are.
    """
    rows = open_.sum(0)
    received = maps.sum(-2) / rows
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


def _centre(maps: Tensor, open_: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns' means over their open rows, [map, key], and the maps without them."""
    mean = maps.sum(-2) / open_.sum(0)
    return mean, torch.addcmul(maps, mean[:, None], open_.to(maps.dtype), value=-1)
