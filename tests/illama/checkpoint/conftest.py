"""Files as the released code writes them, and models of random integers."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from illama.checkpoint.formats import to_official
from illama.checkpoint.quantized import install
from illama.checkpoint.quantized_weight import QuantizedWeight, WeightLayout
from illama.config import Config
from illama.model import Model

Quantized = tuple[Model, dict[str, QuantizedWeight]]


@pytest.fixture(scope="session")
def official() -> Callable[[Model], OrderedDict[str, Tensor]]:
    """Return a function that gives a model's weights under the released names."""
    return lambda model: OrderedDict(
        (to_official(name, model.config.mlp), value) for name, value in model.state_dict().items()
    )


@pytest.fixture
def spoiled(
    fresh: Callable[..., Model],
    official: Callable[[Model], OrderedDict[str, Tensor]],
    tmp_path: Path,
) -> Callable[..., Path]:
    """Return a function that writes a released file with weights replaced or, by None, left out."""

    def write(**changes: Tensor | None) -> Path:
        config = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)
        state = official(fresh(config))
        for name, tensor in changes.items():
            key = name.replace("__", ".")
            state.pop(key, None)
            if tensor is not None:
                state[key] = tensor
        path = tmp_path / "spoiled.pth"
        torch.save({"model": state, "args": argparse.Namespace(num_heads=2)}, path)
        return path

    return write


@pytest.fixture(scope="session")
def quantized_layer() -> Callable[..., QuantizedWeight]:
    """Return a function that makes a layer's weight of random integers."""

    def make(layer: nn.Linear, bits: int, **more: object) -> QuantizedWeight:
        out, width = layer.weight.shape
        group = width if bits == 8 else 16
        half = 2 ** (bits - 1)
        generator = torch.Generator().manual_seed(out + bits)
        values = torch.randint(-half, half, (out, width), generator=generator).to(torch.int8)
        scale = torch.rand(out, width // group, generator=generator).add(0.01).bfloat16().float()
        form = WeightLayout(shape=(out, width), bits=bits, group=group, **more)
        zero = torch.ones_like(scale).to(torch.int8) if form.zero else None
        return QuantizedWeight(form=form, values=values, scale=scale, zero=zero)

    return make


@pytest.fixture(scope="session")
def quantized_model(quantized_layer: Callable[..., QuantizedWeight]) -> Callable[..., Quantized]:
    """Return a function that makes a model of random integers, and its quantized weights."""

    def make(bits: int = 4, **more: object) -> Quantized:
        torch.manual_seed(0)
        config = Config(image_size=16, patch_size=8, width=32, depth=2, heads=2, classes=8)
        model = Model(config).eval()
        weights = {
            name: quantized_layer(layer, bits, **more)
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear)
        }
        install(model, weights)
        return model, weights

    return make


@pytest.fixture(scope="session")
def write(official: Callable[[Model], OrderedDict[str, Tensor]]) -> Callable[..., Path]:
    """Return a function that writes a file as the released code does."""

    def save(path: Path, model: Model, epoch: int = 299, **args: object) -> Path:
        arguments = argparse.Namespace(**{"num_heads": model.config.heads, **args})
        torch.save({"model": official(model), "epoch": epoch, "args": arguments}, path)
        return path

    return save
