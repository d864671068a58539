"""Where attention sinks are: on which token, of which kind, in which map."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from illama.observation import LayerSeen

POSITIONS = ("class token", "register", "corner", "other patch")
"""Where a sink can be: on the class token, on another token that is no patch, or on a patch."""


def kinds_of_tokens(piece: LayerSeen) -> Tensor:
    """Return which kind of position each token is, one-hot int64 [token, kind] as in POSITIONS.

    Corners are those of a square grid of patches; another number of patches has none.
    """
    kinds = torch.ones(len(piece.open), dtype=torch.int64)
    kinds[piece.image_tokens] = POSITIONS.index("other patch")
    patches = torch.arange(len(kinds))[piece.image_tokens]
    number, side = len(patches), math.isqrt(len(patches))
    if side * side == number:
        corners = patches[[0, side - 1, number - side, number - 1]]
        kinds[corners] = POSITIONS.index("corner")
    if piece.class_index is not None:
        kinds[piece.class_index] = POSITIONS.index("class token")
    return torch.nn.functional.one_hot(kinds, len(POSITIONS)).to(
        piece.open.device, non_blocking=True
    )


def count_sinks(sinks: Tensor, key: Tensor, maps: Tensor) -> Tensor:
    """Return in how many images each head's sink is at each key, int64 [head, key].

    `sinks` says which of the maps [image, head, query, key] have one, and `key` at which key it
    is, in the order of images and heads.
    """
    images, heads, _, keys = maps.shape
    counts = torch.zeros(heads, keys, dtype=torch.int64, device=maps.device)
    found = sinks.reshape(images, heads).T.to(torch.int64)
    return counts.scatter_add_(1, key.reshape(images, heads).T, found)


def shares_by_kind(counts: Tensor, kinds: Tensor) -> dict[str, float]:
    """Return the share of all sinks that are at each kind of position; NaN if there are none.

    `counts` int64 [layer, head, key]; `kinds` int64 [key], as in POSITIONS.
    """
    by_key, number = counts.sum((0, 1)), int(counts.sum())
    return {
        position: float(by_key[kinds == kind].sum()) / number if number else math.nan
        for kind, position in enumerate(POSITIONS)
    }


def describe_sink(counts: Tensor, kinds: Tensor) -> str:
    """Return in words where the most frequent sink is, and in which map; nothing without any."""
    if not counts.any():
        return ""
    layer, head, key = (int(each) for each in (counts == counts.max()).nonzero()[0])
    return (
        f"most often on token {key + 1} ({POSITIONS[int(kinds[key])]}), in layer {layer + 1}, "
        f"head {head + 1}"
    )
