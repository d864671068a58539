"""Sums over attention maps, each set of them in one pass over the maps as they are.

Maps come in the model's precision and are read in strips of rows that a cache holds in float64;
every sum is accumulated in float64. Of a causal map only what can be non-zero is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

STRIP_BYTES: Mapping[str, int] = {"cpu": 2**21, "cuda": 2**25}
"""Size of a strip in float64, by kind of device, for each core of a CPU: what caches hold; smaller
ones cost more calls. torch spreads each over the cores, with less waiting than threads of ours."""
STRIP_ROWS = 32
"""Rows of a strip, at least; maps of many tokens have STRIPS strips."""
STRIPS = 8
TINY = torch.finfo(torch.float64).tiny
"""Added before a logarithm: zero weights contribute nothing, and no other weight changes."""


@dataclass(frozen=True, kw_only=True)
class MapSums:
    """Sums over single maps, float64; [map, query] over keys, [map, key] over queries."""

    mass: Tensor
    """Sum of each row, [map, query]."""
    log_mass: Tensor
    """Sum of p log p over each row, [map, query]."""
    received: Tensor
    """Sum of each column, [map, key]."""


@dataclass(frozen=True, kw_only=True)
class ColumnMoments:
    """Moments of equal columns of two maps, over the rows that are open, float64 [map, key].

    The columns are scaled, and taken relative to their own last row: columns that hardly vary
    then lose no digits to their mean.
    """

    shifts: tuple[Tensor, Tensor]
    """The last rows of both maps."""
    sums: tuple[Tensor, Tensor]
    squares: tuple[Tensor, Tensor]
    products: Tensor


@dataclass(frozen=True)
class Strip:
    """Some rows of some maps, and the keys up to which they are read."""

    maps: slice
    rows: slice
    keys: slice


def strips(shape: torch.Size, device: str, *, causal: bool) -> Iterator[Strip]:
    """Yield strips that cover maps of this shape [map, query, key]."""
    number, queries, tokens = shape
    rows = min(queries, max(STRIP_ROWS, -(-queries // STRIPS)))
    room = STRIP_BYTES[device] * (torch.get_num_threads() if device == "cpu" else 1)
    maps = max(1, room // (8 * rows * tokens))
    for first in range(0, number, maps):
        for row in range(0, queries, rows):
            last = min(row + rows, queries)
            yield Strip(
                slice(first, min(first + maps, number)),
                slice(row, last),
                slice(0, last if causal else tokens),
            )


@torch.no_grad()
def sum_maps(used: Tensor, *, causal: bool = False) -> MapSums:
    """Return the sums over maps [image, head, query, key]; `causal`: zero above the diagonal."""
    maps = used.flatten(0, 1)
    sums = MapSums(mass=_zeros(maps, 1), log_mass=_zeros(maps, 1), received=_zeros(maps, 2))

    for strip in strips(maps.shape, maps.device.type, causal=causal):
        exact = maps[strip.maps, strip.rows, strip.keys].to(torch.float64)
        sums.mass[strip.maps, strip.rows] = exact.sum(-1)
        sums.received[strip.maps, strip.keys] += exact.sum(-2)
        logs = (exact + TINY).log_().mul_(exact)
        sums.log_mass[strip.maps, strip.rows] = logs.sum(-1)
    return sums


@torch.no_grad()
def column_moments(
    used: Tensor, previous: Tensor, open_: Tensor, scale: Tensor | None, *, causal: bool = False
) -> ColumnMoments:
    """Return moments of the columns of two layers' maps [image, head, query, key].

    `open_` bool [query, key] says which rows count; `scale` float64 [query, key] multiplies both
    maps, None for one. Both are zero where they are not open.
    """
    both = used.flatten(0, 1), previous.flatten(0, 1)
    counted = open_.to(torch.float64)
    last = [maps[:, -1].to(torch.float64) for maps in both]
    shifts = [row if scale is None else row * scale[-1] for row in last]
    left, right, left_square, right_square, product = (_zeros(both[0], 2) for _ in range(5))

    for strip in strips(both[0].shape, used.device.type, causal=causal):
        where = (strip.rows, strip.keys)
        pair = [each[(strip.maps, *where)].to(torch.float64, copy=True) for each in both]
        for exact, shift in zip(pair, shifts, strict=True):
            if scale is not None:
                exact.mul_(scale[where])
            exact.addcmul_(shift[strip.maps, None, strip.keys], counted[where], value=-1)
        at = (strip.maps, strip.keys)
        left[at] += pair[0].sum(-2)
        right[at] += pair[1].sum(-2)
        product[at] += (pair[0] * pair[1]).sum(-2)
        left_square[at] += pair[0].square_().sum(-2)
        right_square[at] += pair[1].square_().sum(-2)

    return ColumnMoments(
        shifts=(shifts[0], shifts[1]),
        sums=(left, right),
        squares=(left_square, right_square),
        products=product,
    )


def _zeros(maps: Tensor, axis: int) -> Tensor:
    """Return zeros [map, token], float64, for sums that keep an axis of maps."""
    shape = (len(maps), maps.shape[axis])
    return torch.zeros(shape, dtype=torch.float64, device=maps.device)
