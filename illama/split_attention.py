"""Attention with a mask after the softmax by FlexAttention, for compiled models on a GPU.

The product is split at the diagonal, so that every pair of query and key is computed once:

    output = below * w + soft_mask * above * (1 - w),   w = sigmoid(lse_below - lse_above)

`below` attends to the keys up to the query's own, `above` to the later ones, each with a softmax of
its own whose log of the denominator is `lse`. Without a soft mask the values above the diagonal
multiply nothing, so that `above` is given a narrow slice of them: only its denominator counts.
FlexAttention skips blocks that its mask closes, and its gradient goes through `lse`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import (
    AuxRequest,
    BlockMask,
    create_block_mask,
    flex_attention,
)

NARROW = 16
"""Channels of the values where only the denominator counts: the fewest that the kernel takes."""


class SplitMasks(NamedTuple):
    """Which blocks of pairs are on either side of the diagonal."""

    below: BlockMask
    """Keys up to the query's own."""
    above: BlockMask
    """Keys after it."""

    @classmethod
    def of(cls, tokens: int, device: torch.device) -> SplitMasks:
        """Return the masks of a sequence of so many tokens."""
        shape = (None, None, tokens, tokens)
        return cls(
            below=create_block_mask(_up_to_own, *shape, device=str(device)),
            above=create_block_mask(_after_own, *shape, device=str(device)),
        )


def split_attention(
    query: Tensor, key: Tensor, value: Tensor, soft_mask: float, masks: SplitMasks
) -> Tensor:
    """Return the attended values [image, head, query, channel]; `query` is already scaled."""
    below, lse_below = _attend(query, key, value, masks.below)
    narrow = value if soft_mask else value[..., :NARROW]
    above, lse_above = _attend(query, key, narrow, masks.above)
    share = (lse_below - lse_above).sigmoid().unsqueeze(-1).type_as(below)
    attended = below * share
    return attended + soft_mask * above * (1 - share) if soft_mask else attended


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask) -> tuple[Tensor, Tensor]:
    """Return the attended values and the log of each row's denominator [image, head, query]."""
    attended, aux = flex_attention(
        query, key, value, block_mask=mask, scale=1.0, return_aux=AuxRequest(lse=True)
    )
    assert isinstance(attended, Tensor)
    assert aux.lse is not None
    return attended, aux.lse


def _up_to_own(_image: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return key <= query


def _after_own(_image: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return key > query
