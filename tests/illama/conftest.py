"""A small model with every parameter drawn, and the released arithmetic written out plainly."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from illama import cli, exits
from illama.checkpoint.checksums import sha256_of_weights
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.model import Model
from illama.upernet import Segmenter, SegmenterConfig


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


@pytest.fixture
def illama(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Return a function that runs the command and returns exit code, stdout and stderr."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            exits.run(cli.app, "illama", [str(word) for word in words])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def fresh() -> Callable[..., Model]:
    """Return a function that draws every parameter, so that none can be mixed up unseen."""

    def make(config: Config, seed: int = 0) -> Model:
        torch.manual_seed(seed)
        model = Model(config).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        return model

    return make


@pytest.fixture(scope="session")
def same_weights() -> Callable[[nn.Module, nn.Module], bool]:
    """Return a function that tells whether two models hold the same numbers."""
    return lambda one, other: (
        sha256_of_weights(one.state_dict()) == sha256_of_weights(other.state_dict())
    )


@pytest.fixture
def segmenter() -> Segmenter:
    """Return a small segmenter of five classes."""
    torch.manual_seed(0)
    backbone = Config(image_size=16, patch_size=4, width=16, depth=4, heads=2, classes=1)
    return Segmenter(SegmenterConfig(backbone=backbone, classes=5)).eval()


@pytest.fixture(scope="session")
def write_ade() -> Callable[..., Path]:
    """Return a function that writes a folder laid out like ADE20K.

    The left half of an image is class 1, the right half class 2, under a stripe of 0.
    """

    def write(root: Path, images: int = 4, size: tuple[int, int] = (24, 20)) -> Path:
        random = np.random.default_rng(0)
        for split in ("training", "validation"):
            for kind in ("images", "annotations"):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
            for number in range(images):
                width, height = size[0] + 4 * number, size[1]
                mask = np.ones((height, width), np.uint8)
                mask[:, width // 2 :] = 2
                mask[0] = 0
                light = np.where(mask[..., None] == 2, 200, 50)
                pixels = (light + random.integers(0, 20, (height, width, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(root / "images" / split / f"{number}.jpg")
                Image.fromarray(mask).save(root / "annotations" / split / f"{number}.png")
        return root

    return write


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a small model with random weights and a soft mask of 0.5, as a `.pth`."""
    torch.manual_seed(0)
    config = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)
    path = tmp_path / "small.pth"
    save_checkpoint(Model(config), path, soft_mask=0.5, epoch=3, args={"lr": 0.1})
    return path
