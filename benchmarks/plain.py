"""The released arithmetic, written plainly: the reference that the benchmarks are ratios to.

Complex rotary multiplication, the mask rebuilt at every forward, explicit softmax and product, all
blocks computed in full. It takes our weights, so both sides compute the same function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from illama.model import Model


class PlainModel(nn.Module):
    """A released-form model with the weights of ours."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.config = model.config
        state = {key.replace(".", "/"): value.clone() for key, value in model.state_dict().items()}
        self.weights = nn.ParameterDict(state)
        length, width = model.config.tokens, model.config.head_width
        angle = torch.outer(
            torch.arange(length).float(), 1.0 / 1e4 ** (torch.arange(0, width, 2).float() / width)
        )
        self.frequencies = torch.polar(torch.ones_like(angle), angle)

    def forward(self, images: Tensor, soft_mask: float = 0.0) -> Tensor:
        """Return logits [image, class]."""
        tokens = functional.conv2d(
            images,
            self.weights["patch_embedding/weight"],
            self.weights["patch_embedding/bias"],
            stride=self.config.patch_size,
        )
        tokens = tokens.flatten(2).transpose(1, 2)
        class_token = self.weights["class_token"].expand(len(images), -1, -1)
        tokens = torch.cat((tokens, class_token), dim=1) + self.weights["position_embedding"]
        for index in range(self.config.depth):
            tokens = tokens + self.attention(
                index, self.norm(f"blocks/{index}/attention_norm", tokens), soft_mask
            )
            tokens = tokens + self.feed(
                index, self.norm(f"blocks/{index}/feed_forward_norm", tokens)
            )
        last = self.norm("norm", tokens)[:, -1]
        return functional.linear(last, self.weights["head/weight"], self.weights["head/bias"])

    def norm(self, name: str, tokens: Tensor) -> Tensor:
        """Scale to unit root mean square in fp32."""
        exact = tokens.float()
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + 1e-6)
        return exact.type_as(tokens) * self.weights[f"{name}/weight"]

    def attention(self, index: int, tokens: Tensor, soft_mask: float) -> Tensor:
        """Softmax over all keys, times the mask built here and now, times the values."""
        images, length, width = tokens.shape
        name = f"blocks/{index}/attention"
        qkv = functional.linear(
            tokens, self.weights[f"{name}/qkv/weight"], self.weights[f"{name}/qkv/bias"]
        )
        heads = qkv.reshape(images, length, 3, self.config.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        query, key = self.rotate(query), self.rotate(key)
        scores = (query @ key.transpose(-2, -1)) * self.config.head_width**-0.5
        ones = torch.ones(length, length, device=tokens.device)
        mask = soft_mask * ones + (1 - soft_mask) * torch.tril(ones)
        attended = (scores.softmax(dim=-1) * mask.to(scores.dtype)) @ value
        attended = attended.transpose(1, 2).reshape(images, length, width)
        return functional.linear(
            attended,
            self.weights[f"{name}/projection/weight"],
            self.weights[f"{name}/projection/bias"],
        )

    def rotate(self, heads: Tensor) -> Tensor:
        """Multiply neighbouring channel pairs as complex numbers."""
        pairs = torch.view_as_complex(heads.float().reshape(*heads.shape[:-1], -1, 2))
        return (
            torch.view_as_real(pairs * self.frequencies.to(heads.device)).flatten(3).type_as(heads)
        )

    def feed(self, index: int, tokens: Tensor) -> Tensor:
        """The gated feed-forward."""
        name = f"blocks/{index}/feed_forward"
        gate = functional.silu(functional.linear(tokens, self.weights[f"{name}/gate/weight"]))
        up = functional.linear(tokens, self.weights[f"{name}/up/weight"])
        return functional.linear(gate * up, self.weights[f"{name}/down/weight"])
