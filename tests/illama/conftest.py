"""A small model with every parameter drawn, and the released arithmetic written out plainly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from illama.config import Config
from illama.model import Model


@pytest.fixture(scope="session")
def draw() -> Callable[..., Model]:
    """Return a function that draws every parameter of a model, norms and biases too."""

    def make(config: Config, path: str = "explicit") -> Model:
        torch.manual_seed(0)
        model = Model(config, path=path).eval()
        for name, parameter in model.named_parameters():
            nn.init.normal_(parameter, mean=float("norm" in name), std=0.2)
        return model

    return make


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Tensor]:
    """Return a function that makes images of a config's size, the same ones every time."""

    def make(config: Config, count: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        size = config.image_size
        return torch.randn(count, 3, size, size, generator=generator)

    return make


@pytest.fixture(scope="session")
def plain() -> type[Plain]:
    """Return the plain network, made from weights (our names) and a config."""
    return Plain


@dataclass
class Plain:
    """The released arithmetic: complex rotation, full maps, every row of every block."""

    weights: Mapping[str, Tensor]
    config: Config

    def __call__(self, images: Tensor, soft_mask: float = 0.0) -> Tensor:
        """Return logits [image, class]."""
        tokens = self.embed(images)
        for i in range(self.config.depth):
            block = f"blocks.{i}"
            normed = self.norm(tokens, f"{block}.attention_norm")
            tokens = tokens + self.attend(normed, f"{block}.attention", soft_mask)
            normed = self.norm(tokens, f"{block}.feed_forward_norm")
            tokens = tokens + self.feed(normed, f"{block}.feed_forward")
        return self.linear(self.norm(tokens, "norm")[:, self.config.class_index], "head")

    def embed(self, images: Tensor) -> Tensor:
        kernel, bias = (self.weights[f"patch_embedding.{kind}"] for kind in ("weight", "bias"))
        patches = functional.conv2d(images, kernel, bias, stride=self.config.patch_size)
        patches = patches.flatten(2).transpose(1, 2)
        token = self.weights["class_token"].expand(len(images), 1, self.config.width)
        first = self.config.class_token == "first"
        tokens = torch.cat((token, patches) if first else (patches, token), dim=1)
        return tokens + self.weights.get("position_embedding", torch.zeros(()))

    def attend(self, tokens: Tensor, name: str, soft_mask: float) -> Tensor:
        count, length, width = tokens.shape
        heads = self.linear(tokens, f"{name}.qkv").reshape(count, length, 3, self.config.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if self.config.position != "learned":
            query, key = self.turn(query), self.turn(key)
        scores = query @ key.transpose(-2, -1) / self.config.head_width**0.5
        maps = self.mask(scores, soft_mask)
        out = (maps @ value).transpose(1, 2).reshape(count, length, width)
        return self.linear(out, f"{name}.projection")

    def turn(self, heads: Tensor) -> Tensor:
        channels = torch.arange(0, self.config.head_width, 2)
        frequency = 10_000.0 ** (-channels / self.config.head_width)
        angle = torch.outer(torch.arange(self.config.tokens), frequency).to(heads.dtype)
        pairs = torch.view_as_complex(heads.reshape(*heads.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)

    def mask(self, scores: Tensor, soft_mask: float) -> Tensor:
        seen = torch.ones(scores.shape[-2:], dtype=scores.dtype).tril()
        if self.config.masking == "multiplicative":
            return scores.softmax(-1) * (soft_mask + (1 - soft_mask) * seen)
        if self.config.masking == "none":
            return scores.softmax(-1)
        if self.config.masking == "modified":
            seen[0] = 1
        return scores.masked_fill(seen == 0, float("-inf")).softmax(-1)

    def feed(self, tokens: Tensor, name: str) -> Tensor:
        hidden = self.linear(tokens, f"{name}.up")
        if self.config.mlp == "gelu":
            return self.linear(functional.gelu(hidden), f"{name}.down")
        gate = functional.silu(self.linear(tokens, f"{name}.gate"))
        return self.linear(gate * hidden, f"{name}.down")

    def norm(self, tokens: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        if self.config.norm == "layer":
            return functional.layer_norm(tokens, (self.config.width,), weight, bias, 1e-6)
        return tokens / (tokens.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    def linear(self, tokens: Tensor, name: str) -> Tensor:
        bias = self.weights.get(f"{name}.bias")
        return functional.linear(tokens, self.weights[f"{name}.weight"], bias)
