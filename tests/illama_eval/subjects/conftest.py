"""Small transformers of every kind of attention, without any library of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Attention of 2 heads and width 16; `product` takes query, key, value by head."""

    def __init__(self, product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.product = product
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        heads = self.qkv(tokens).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        return self.proj(self.product(*heads).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(16), attention
        self.feed_forward = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm(tokens))
        return tokens + self.feed_forward(tokens)


class Transformer(nn.Module):
    """32 px in 8 px patches behind `prefix` tokens, 3 blocks, a head of 5 classes."""

    def __init__(
        self, make: Callable[[], nn.Module], *, prefix: int = 1, named: bool = True
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        setattr(
            self, "cls_token" if named else "register", nn.Parameter(torch.randn(1, prefix, 16))
        )
        self.prefix = self.cls_token if named else self.register
        self.blocks = nn.Sequential(*(Block(make()) for _ in range(3)))
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.prefix.expand(len(images), -1, -1), tokens), dim=1)
        return self.head(self.blocks(tokens)[:, 0])


def eager(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-2, -1) / 8**0.5
    return functional.dropout(scores.softmax(-1), 0.1, training=False) @ value


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value)


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


PRODUCTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "eager": eager,
    "fused": fused,
    "causal": causal,
}


@pytest.fixture(scope="session")
def transformer() -> Callable[..., nn.Module]:
    """Return a function that makes a small transformer of a kind of attention, always the same."""

    def make(product: Any = "fused", **given: Any) -> nn.Module:
        torch.manual_seed(0)
        compute = PRODUCTS.get(product, product) if isinstance(product, str) else product
        build = compute if isinstance(compute, type) else lambda: Attention(compute)
        return Transformer(build, **given).eval()

    return make
