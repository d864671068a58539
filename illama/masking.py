"""Attention masks: none, additive (causal), modified, and the released multiplicative one.

Shapes: scores and weights [image, head, query, key]; masks [query, key].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from illama.observation import Form
from illama.split_attention import SplitMasks, split_attention


class Unmasked(nn.Module):
    """Bidirectional attention: every query sees every key."""

    allowed: Tensor

    def __init__(self, tokens: int) -> None:
        super().__init__()
        allowed = self.pattern(tokens)
        self.register_buffer("allowed", allowed, persistent=False)

    @staticmethod
    def pattern(tokens: int) -> Tensor:
        """Return which keys a query may see, bool [query, key]."""
        return torch.ones(tokens, tokens, dtype=torch.bool)

    def attention_weights(self, scores: Tensor, soft_mask: float, rows: slice) -> Tensor:
        """Return the weights that multiply the values, [image, head, query, key]."""
        _refuse(soft_mask)
        del rows
        return scores.softmax(-1)

    def weights_and_softmax(self, scores: Tensor, soft_mask: float) -> tuple[Tensor, Tensor]:
        """Return the weights, and the softmax over all keys, which may be the same tensor."""
        softmax = self.attention_weights(scores, soft_mask, slice(None))
        return softmax, softmax

    def factor(self, soft_mask: float) -> Tensor | None:
        """Return S with weights = softmax(scores) * S, [query, key]; None where there is none."""
        _refuse(soft_mask)
        return self.allowed.float()

    def open(self, soft_mask: float) -> Tensor:
        """Return where weights can be non-zero, bool [query, key]."""
        _refuse(soft_mask)
        return self.allowed

    def form(self, soft_mask: float) -> Form | None:
        """Return what the mask is, if it is one of the common ones."""
        _refuse(soft_mask)
        return "full"

    def visible(self, last_row: int, soft_mask: float) -> int:
        """Return how many leading keys the rows up to `last_row` can see."""
        del last_row, soft_mask
        return self.allowed.shape[-1]

    def fuse(self, query: Tensor, key: Tensor, value: Tensor, soft_mask: float) -> Tensor:
        """Return the attended values by one fused call; `query` is already scaled."""
        _refuse(soft_mask)
        return functional.scaled_dot_product_attention(query, key, value, scale=1.0)


class AdditiveMask(Unmasked):
    """Strictly causal attention: -inf before the softmax (paper, equation 1)."""

    bias: Tensor

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        bias = torch.zeros(tokens, tokens).masked_fill(~self.allowed, float("-inf"))
        self.register_buffer("bias", bias, persistent=False)

    @staticmethod
    def pattern(tokens: int) -> Tensor:
        """Return the lower triangle with its diagonal."""
        return torch.ones(tokens, tokens, dtype=torch.bool).tril()

    def attention_weights(self, scores: Tensor, soft_mask: float, rows: slice) -> Tensor:
        """Return softmax over the allowed keys alone."""
        _refuse(soft_mask)
        return (scores + self.bias[rows].type_as(scores)).softmax(-1)

    def weights_and_softmax(self, scores: Tensor, soft_mask: float) -> tuple[Tensor, Tensor]:
        """Return softmax over the allowed keys, and softmax over all."""
        return self.attention_weights(scores, soft_mask, slice(None)), scores.softmax(-1)

    def factor(self, soft_mask: float) -> Tensor | None:
        """Return None: this mask changes the softmax itself."""
        _refuse(soft_mask)
        return None

    def form(self, soft_mask: float) -> Form | None:
        """Return that it is the lower triangle."""
        _refuse(soft_mask)
        return "lower"

    def visible(self, last_row: int, soft_mask: float) -> int:
        """Return the keys up to the last row's own."""
        del soft_mask
        return last_row + 1

    def fuse(self, query: Tensor, key: Tensor, value: Tensor, soft_mask: float) -> Tensor:
        """Return the attended values by one fused call with the mask inside."""
        _refuse(soft_mask)
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=self.allowed, scale=1.0
        )


class ModifiedMask(AdditiveMask):
    """The additive mask with row 0 open, for a class token in front (paper, Fig. 2c)."""

    @staticmethod
    def pattern(tokens: int) -> Tensor:
        """Return the lower triangle and the whole first row."""
        allowed = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        allowed[0] = True
        return allowed

    def form(self, soft_mask: float) -> None:
        """Return nothing: the first row sees every key."""
        _refuse(soft_mask)

    def visible(self, last_row: int, soft_mask: float) -> int:
        """Return all keys: the first row sees them."""
        del last_row, soft_mask
        return self.allowed.shape[-1]


class MultiplicativeMask(Unmasked):
    """The released mask: softmax over ALL keys, then times S, not renormalised (paper, equation 2).

    S = soft_mask * ones + (1 - soft_mask) * tril. Later tokens still enter the denominator, so a
    causal fused softmax is a different model.
    """

    lower: Tensor

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.register_buffer("lower", self.allowed.float(), persistent=False)
        self.split: SplitMasks | None = None

    def split_when_compiled(self) -> None:
        """Let `fuse` split the product at the diagonal where it is compiled, on this device."""
        self.split = SplitMasks.of(self.allowed.shape[-1], self.allowed.device)

    @staticmethod
    def pattern(tokens: int) -> Tensor:
        """Return the lower triangle with its diagonal."""
        return torch.ones(tokens, tokens, dtype=torch.bool).tril()

    def attention_weights(self, scores: Tensor, soft_mask: float, rows: slice) -> Tensor:
        """Return softmax over all keys times S; in place where no gradient needs the softmax."""
        attention = scores.softmax(-1)
        factor = self.factor(soft_mask)[rows].type_as(attention)
        return attention * factor if attention.requires_grad else attention.mul_(factor)

    def weights_and_softmax(self, scores: Tensor, soft_mask: float) -> tuple[Tensor, Tensor]:
        """Return softmax times S, and softmax."""
        softmax = scores.softmax(-1)
        return softmax * self.factor(soft_mask).type_as(softmax), softmax

    def factor(self, soft_mask: float) -> Tensor:
        """Return S, fp32 [query, key].

        Raises:
            ValueError: `soft_mask` is not from 0 to 1.
        """
        _check_range(soft_mask)
        return self.lower if soft_mask == 0 else soft_mask + (1 - soft_mask) * self.lower

    def open(self, soft_mask: float) -> Tensor:
        """Return the lower triangle, or everything once the mask is soft."""
        return self.allowed if soft_mask == 0 else torch.ones_like(self.allowed)

    def form(self, soft_mask: float) -> Form:
        """Return the lower triangle, a soft factor, or none once everything is open."""
        return "lower" if soft_mask == 0 else "full" if soft_mask == 1 else "soft"

    def visible(self, last_row: int, soft_mask: float) -> int:
        """Return the keys up to the last row's own, or all once the mask is soft."""
        return last_row + 1 if soft_mask == 0 else self.allowed.shape[-1]

    def fuse(self, query: Tensor, key: Tensor, value: Tensor, soft_mask: float) -> Tensor:
        """Return the attended values by one public, differentiable call on doubled keys.

        The two copies of a key have disjoint masks that together cover every pair once, so the
        softmax is the full one, while values above the diagonal are multiplied by `soft_mask`.

        Raises:
            ValueError: `soft_mask` is not from 0 to 1.
        """
        _check_range(soft_mask)
        if soft_mask == 1:
            return super().fuse(query, key, value, 0.0)
        if self.split is not None and torch.compiler.is_compiling():
            return split_attention(query, key, value, soft_mask, self.split)
        once = torch.cat((self.allowed, ~self.allowed), dim=-1)
        return functional.scaled_dot_product_attention(
            query,
            torch.cat((key, key), dim=-2),
            torch.cat((value, soft_mask * value), dim=-2),
            attn_mask=once,
            scale=1.0,
        )


MASKINGS: Mapping[str, type[Unmasked]] = {
    "none": Unmasked,
    "additive": AdditiveMask,
    "modified": ModifiedMask,
    "multiplicative": MultiplicativeMask,
}
"""The class behind each value of `Config.masking`."""


def _refuse(soft_mask: float) -> None:
    """Raise where a soft mask would be ignored."""
    if soft_mask != 0:
        raise ValueError(
            f"soft_mask={soft_mask} is defined for masking='multiplicative' only; pass 0"
        )


def _check_range(soft_mask: float) -> None:
    """Raise where a soft mask is no share of what causal attention hides."""
    if not 0 <= soft_mask <= 1:
        raise ValueError(f"soft_mask={soft_mask} is not from 0 (causal) to 1 (bidirectional)")
