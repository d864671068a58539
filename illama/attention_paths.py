"""Checks that fast attention equals the explicit product on a device, on small random cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from illama.files import first_line
from illama.layers import attend
from illama.masking import MASKINGS, MultiplicativeMask
from illama.split_attention import SplitMasks, split_attention

Attended: TypeAlias = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""From query, key, value and soft mask to the attended values."""

CHECKED_TOKENS = 33
CHECKED_TOLERANCE = 1e-4
"""Largest error of a fused product, relative to the largest value, in fp32."""
LOW_TOLERANCE = 0.03
"""The same in bf16 and fp16, whose own rounding comes to a third of it."""


@cache
def fused_agrees(masking: str, device: torch.device) -> bool:
    """Return whether fused attention equals the explicit product here, on a small random case."""
    mask = MASKINGS[masking](CHECKED_TOKENS).to(device)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, 1, 2, CHECKED_TOKENS, 16, generator=generator)
    query, key, value = drawn.to(device).unbind(0)
    with torch.no_grad():
        for soft_mask in (0.0, 0.5) if masking == "multiplicative" else (0.0,):
            explicit = attend(query, key, value, mask, soft_mask)
            error = (mask.fuse(query, key, value, soft_mask) - explicit).abs().max()
            if not error <= CHECKED_TOLERANCE * explicit.abs().max():
                return False
    return True


class HeadShape(NamedTuple):
    """One head of a model, as its attention is computed."""

    tokens: int
    width: int
    dtype: torch.dtype
    device: torch.device


@cache
def split_fault(shape: HeadShape) -> str:
    """Return why FlexAttention cannot be used here; nothing where it came out right.

    Compiled, values and gradients are compared with the explicit product in fp32, once.
    """
    try:
        masks, compiled = SplitMasks.of(shape.tokens, shape.device), torch.compile(split_attention)

        def attend_split(query: Tensor, key: Tensor, value: Tensor, soft_mask: float) -> Tensor:
            return compiled(query, key, value, soft_mask, masks)

        error = max(largest_error(attend_split, shape, soft_mask) for soft_mask in (0.0, 0.5))
    except Exception as problem:  # noqa: BLE001 - a compiler may raise anything
        return first_line(problem) or type(problem).__name__
    limit = CHECKED_TOLERANCE if shape.dtype == torch.float32 else LOW_TOLERANCE
    return "" if error <= limit else f"it errs by {error:.1e} on a random case"


def largest_error(attention: Attended, shape: HeadShape, soft_mask: float) -> float:
    """Return the largest error of values and gradients, relative to each one's largest value."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(4, 1, 2, shape.tokens, shape.width, generator=generator)
    drawn[0] *= shape.width**-0.5
    wide = torch.promote_types(shape.dtype, torch.float32)
    query, key, value = heads = [
        part.to(shape.device, shape.dtype).requires_grad_() for part in drawn[:3]
    ]
    exact_query, exact_key, exact_value = exact = [
        part.detach().to(wide).requires_grad_() for part in heads
    ]
    mask = MultiplicativeMask(shape.tokens).to(shape.device)
    upstream = drawn[3].to(shape.device)
    split = attention(query, key, value, soft_mask)
    explicit = attend(exact_query, exact_key, exact_value, mask, soft_mask)
    found = _with_gradients(split, heads, upstream)
    expected = _with_gradients(explicit, exact, upstream)
    return max(
        float((one - other).abs().max() / other.abs().max())
        for one, other in zip(found, expected, strict=True)
    )


def _with_gradients(
    attended: Tensor, heads: Sequence[Tensor], upstream: Tensor
) -> tuple[Tensor, ...]:
    """Return the attended values, and their gradients with respect to the heads."""
    gradients = torch.autograd.grad(attended, heads, upstream.to(attended.dtype))
    return attended.detach(), *gradients
