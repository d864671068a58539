"""SmoothQuant: move outlier channels from a layer's input into its weight, exactly.

x W^T = (x / s)(W s)^T with s_j = max|x_j|^a / max|w_j|^(1-a) (Xiao et al. 2022). The division is
folded into what computes x: the norm before qkv and before gate and up, the value rows of qkv
before the projection (each channel of the values passes through attention by itself), the rows of
up before SwiGLU's down. GELU's down has nothing to fold into and is not smoothed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from illama.layers import SwiGLU
from illama.model import Block, Model
from illama_eval.quantize.activations import Inputs

NARROWEST = 1e-5
"""Smallest magnitude of a channel; smaller ones count as this."""


@dataclass(frozen=True)
class SmoothingGroup:
    """Layers that share an input, and the parameters that compute it."""

    consumers: tuple[nn.Linear, ...]
    makers: tuple[Tensor, ...]
    """Weights [channel, ...] and biases [channel] whose rows are divided."""
    first: str
    """Name of the first consumer."""


@torch.no_grad()
def smooth(model: Model, inputs: Mapping[str, Inputs], strength: float) -> list[str]:
    """Smooth a model in place; return the names of the observed layers, one per group.

    Logits stay the same up to rounding. `strength` is a, 0 to 1.
    """
    folded = []
    for number, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        for group in _groups(block, f"blocks.{number}"):
            if group.first in inputs:
                factor = _factor(group, inputs[group.first].largest, strength)
                for maker in group.makers:
                    maker.div_(factor.view(-1, *[1] * (maker.ndim - 1)))
                for consumer in group.consumers:
                    consumer.weight.mul_(factor)
                folded.append(group.first)
    return folded


def _factor(group: SmoothingGroup, largest: Tensor, strength: float) -> Tensor:
    """Return s, fp32 [channel]."""
    heaviest = torch.stack([each.weight.abs().amax(0) for each in group.consumers]).amax(0)
    reach, weight = largest.clamp_min(NARROWEST), heaviest.clamp_min(NARROWEST)
    return (reach**strength / weight ** (1 - strength)).clamp(1e-3, 1e3)


def _groups(block: Block, path: str) -> Iterator[SmoothingGroup]:
    """Yield a block's groups; one that changes a layer's rows comes before that of its input."""
    qkv, projection = block.attention.qkv, block.attention.projection
    width = projection.in_features
    values = (qkv.weight[2 * width :], qkv.bias[2 * width :])
    yield SmoothingGroup((projection,), values, f"{path}.attention.projection")
    yield SmoothingGroup((qkv,), tuple(block.attention_norm.parameters()), f"{path}.attention.qkv")
    feed = block.feed_forward
    entrance = tuple(block.feed_forward_norm.parameters())
    if isinstance(feed, SwiGLU):
        yield SmoothingGroup((feed.down,), (feed.up.weight,), f"{path}.feed_forward.down")
        yield SmoothingGroup((feed.gate, feed.up), entrance, f"{path}.feed_forward.gate")
    else:
        yield SmoothingGroup((feed.up,), entrance, f"{path}.feed_forward.up")


def unfolded(model: Model, names: Sequence[str]) -> list[str]:
    """Return the layers among `names` whose input cannot be smoothed."""
    gelu = model.config.mlp == "gelu"
    return [name for name in names if gelu and name.endswith("feed_forward.down")]
