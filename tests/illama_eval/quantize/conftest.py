"""A small model whose weights are worth quantizing, and images for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from illama.config import Config
from illama.model import Model
from illama.transforms import Transform, evaluation_transform
from illama_eval.quantize.calibration import CalibrationSet
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.network import NetworkSubject
from illama_eval.subjects.wrap import wrap

SIDE = 32


class SmallBlock(nn.Module):
    """A block with one fused layer for query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        images, count, width = tokens.shape
        shape = images, count, 3, self.heads, width // self.heads
        query, key, value = self.qkv(self.norm1(tokens)).view(shape).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.proj(seen.transpose(1, 2).flatten(2))
        return tokens + self.fc2(functional.gelu(self.fc1(self.norm2(tokens))))


class SmallTransformer(nn.Module):
    """A vision transformer of someone else's: 16 patches, no class token, their mean to the end."""

    def __init__(self, classes: int, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.position = nn.Parameter(torch.randn(1, 16, width) / 10)
        self.blocks = nn.ModuleList(SmallBlock(width, 2) for _ in range(depth))
        self.classifier = nn.Linear(width, classes) if classes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.classifier(tokens.mean(1))
        return logits


@pytest.fixture(scope="session")
def make_network() -> Callable[..., NetworkSubject]:
    """Return a function that makes a subject of a module, by default a small transformer."""

    def make(module: nn.Module | None = None, *, classes: int = 16) -> NetworkSubject:
        torch.manual_seed(0)
        made = SmallTransformer(classes) if module is None else module
        return wrap(made, Transform(image_size=SIDE, resize="warp"), classes or None)

    return make


@pytest.fixture(scope="session")
def make_subject() -> Callable[..., ModelSubject]:
    """Return a function that makes a subject of uneven weights, with changes to its config."""

    def make(**changes: object) -> ModelSubject:
        torch.manual_seed(0)
        config = Config(image_size=SIDE, patch_size=8, width=64, depth=3, heads=2, classes=16)
        model = Model(Config.from_dict({**config.to_dict(), **changes})).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.mul_(2)
                elif "norm" in name and name.endswith("weight"):
                    parameter.add_(torch.rand_like(parameter) * 4)
        return ModelSubject(
            name="tested",
            model=model,
            transform=evaluation_transform(SIDE),
            provenance={"weights_sha256": "0" * 64, "file": "tested.pth"},
        )

    return make


@pytest.fixture(scope="module")
def subject(make_subject: Callable[..., ModelSubject]) -> ModelSubject:
    return make_subject()


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.randn(16, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def calibration(images: Tensor) -> CalibrationSet:
    return CalibrationSet(images=images, record={"images": len(images)})
