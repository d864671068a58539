"""The parts of the network: norms, feed-forwards, rotary positions, attention.

Shapes are written [image, token, channel] and, for attention maps, [image, head, query, key].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from illama.masking import Unmasked

EPSILON = 1e-6
"""Added to the variance in every norm, as in the released weights."""

Path = Literal["auto", "explicit", "fused"]
"""How attention is computed: the plain product, or one fused call that never forms the map."""

CHUNKED_FROM = 400
"""Tokens from which query rows are taken in chunks on a CPU: the product then skips masked keys."""


class RMSNorm(nn.Module):
    """Scale tokens to unit root mean square in fp32 (paper, section 3.2; Zhang & Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape and dtype."""
        exact = tokens.float()
        scale = torch.rsqrt(exact.square().mean(-1, keepdim=True) + EPSILON)
        return (exact * scale).type_as(tokens) * self.weight


class LayerNorm(nn.LayerNorm):
    """ViT's norm, with its epsilon."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)


class SwiGLU(nn.Module):
    """Gated feed-forward without biases (paper, section 3.1): down(silu(gate x) * up x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        out: Tensor = self.down(functional.silu(self.gate(tokens)) * self.up(tokens))
        return out


class GeluMLP(nn.Module):
    """ViT's feed-forward with biases: down(gelu(up x))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        out: Tensor = self.down(functional.gelu(self.up(tokens)))
        return out


class RotaryTable(nn.Module):
    """Cosine and sine of position x frequency, rotated onto queries and keys (paper, section 3.4).

    The released code multiplies neighbouring channel pairs (2i, 2i+1) as complex numbers. The same
    rotation is done here in real fp32 arithmetic on heads that have all even channels before all
    odd ones (`Attention` keeps its weights so): contiguous halves are twice as fast to rotate.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, tokens: int, head_width: int, theta: float = 1e4) -> None:
        super().__init__()
        self.tokens, self.head_width, self.theta = tokens, head_width, theta
        cosine, sine = self.compute()
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return cosine and signed sine, fp32 [token, channel], for both halves of a head."""
        exponent = torch.arange(0, self.head_width, 2).float() / self.head_width
        angle = torch.outer(torch.arange(self.tokens).float(), self.theta**-exponent)
        cosine, sine = angle.cos(), angle.sin()
        return torch.cat((cosine, cosine), dim=-1), torch.cat((-sine, sine), dim=-1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the tables with the model, but keep them fp32: positions need the precision."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.cosine, self.sine = (table.to(self.cosine.device) for table in self.compute())
        return self

    def select(self, positions: Tensor) -> RotaryTable:
        """Return the table of a sequence whose tokens are at these positions, int64 [token]."""
        table = RotaryTable(len(positions), self.head_width, self.theta)
        table.cosine, table.sine = self.cosine[positions], self.sine[positions]
        return table

    def rotate(self, heads: Tensor, rows: slice = slice(None)) -> Tensor:
        """Rotate [..., token, channel]; `rows` are the positions of the tokens."""
        exact = heads.float()
        swapped = exact.roll(self.head_width // 2, dims=-1)
        turned = torch.addcmul(exact * self.cosine[rows], swapped, self.sine[rows])
        return turned.type_as(heads)


class Attention(nn.Module):
    """Multi-head self-attention; mask and rotary table are arguments, one for all blocks.

    With rotary positions, the rows of queries and keys are in memory with each head's even
    channels before its odd ones. Both are permuted alike, so scores do not change. `state_dict`
    and `load_state_dict` use the published order.
    """

    def __init__(self, width: int, heads: int, *, rotary: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        if rotary:
            order = halves_first(width, heads)
            saved = partial(_permute_saved, order.argsort())
            loaded = partial(_permute_loaded, order)
            self.register_state_dict_post_hook(saved)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_pre_hook(loaded)  # type: ignore[no-untyped-call]

    def forward(
        self,
        tokens: Tensor,
        masking: Unmasked,
        rotary: RotaryTable | None,
        soft_mask: float = 0.0,
        rows: slice = slice(None),
        path: Path = "explicit",
    ) -> Tensor:
        """Return the attended tokens of `rows`, [image, row, channel]."""
        query, key, value = self.split(tokens, rotary, rows)
        if path == "fused" and rows == slice(None):
            attended = masking.fuse(query, key, value, soft_mask)
        else:
            attended = attend(query, key, value, masking, soft_mask, rows)
        return self.merge(attended)

    def split(
        self, tokens: Tensor, rotary: RotaryTable | None, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return query (scaled, `rows` only), key and value, each [image, head, token, channel]."""
        images, length, width = tokens.shape
        heads = self.qkv(tokens).view(images, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        query = query[:, :, rows]
        if rotary is not None:
            query, key = rotary.rotate(query, rows), rotary.rotate(key)
        return query * (width // self.heads) ** -0.5, key, value

    def merge(self, attended: Tensor) -> Tensor:
        """Return the projected heads, [image, token, channel]."""
        out: Tensor = self.projection(attended.transpose(1, 2).flatten(2))
        return out


def halves_first(width: int, heads: int) -> Tensor:
    """Return each memory row's index in the published qkv weight, int64 [3 * width]."""
    rows = torch.arange(3 * width, device="cpu").view(3, heads, -1, 2)
    halves = rows[:2].transpose(-2, -1).flatten()
    return torch.cat((halves, rows[2].flatten()))


def _permute_saved(
    order: Tensor, module: nn.Module, state: dict[str, Any], prefix: str, _metadata: object
) -> None:
    """Put the qkv rows of a state dict into the published order."""
    del module
    for key in (f"{prefix}qkv.weight", f"{prefix}qkv.bias"):
        if key in state and _is_plain(state[key]):
            state[key] = state[key][order]


def _permute_loaded(
    order: Tensor, module: nn.Module, state: dict[str, Any], prefix: str, *_: object
) -> None:
    """Put the qkv rows of a state dict into the order in memory; wrong shapes are left to torch."""
    del module
    for key in (f"{prefix}qkv.weight", f"{prefix}qkv.bias"):
        if key in state and len(state[key]) == len(order) and _is_plain(state[key]):
            state[key] = state[key][order]


def _is_plain(tensor: Tensor) -> bool:
    """Return whether rows can be taken: a quantized weight keeps the order in memory."""
    return type(tensor) in (Tensor, nn.Parameter)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masking: Unmasked,
    soft_mask: float,
    rows: slice = slice(None),
) -> Tensor:
    """Return weights @ value by the explicit product, [image, head, row, channel].

    Without gradients, long sequences on a CPU are taken in chunks of rows, and keys that a chunk
    cannot see are left out of the product (exact).
    """
    keys = key.transpose(-2, -1)
    pieces = []
    for part, chunk in _chunks(query, rows, key.shape[-2]):
        weights = masking.attention_weights(query[:, :, part] @ keys, soft_mask, chunk)
        seen = masking.visible(chunk.stop - 1, soft_mask)
        pieces.append(weights[..., :seen] @ value[:, :, :seen])
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-2)


def _chunks(query: Tensor, rows: slice, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Yield pairs of slices: rows of `query`, and the rows of the map that they are."""
    start, stop, _ = rows.indices(tokens)
    count = 1
    if tokens >= CHUNKED_FROM and query.device.type == "cpu" and not query.requires_grad:
        count = 4
    size = -(-(stop - start) // count)
    for first in range(start, stop, size):
        last = min(first + size, stop)
        yield slice(first - start, last - start), slice(first, last)
