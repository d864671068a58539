from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from illama.checkpoint import torchao_tensors
from illama.checkpoint.quantized import install, pack_bits, unpack_bits
from illama.checkpoint.quantized_weight import QuantizedWeight, WeightLayout
from illama.config import Config
from illama.files import CheckpointError
from illama.model import Model

CONFIG = Config(image_size=16, patch_size=8, width=32, depth=2, heads=2, classes=8)


def quantized_layer(layer: nn.Linear, bits: int, **more: object) -> QuantizedWeight:
    """Return a layer's weight as random integers."""
    out, width = layer.weight.shape
    group = width if bits == 8 else 16
    half = 2 ** (bits - 1)
    generator = torch.Generator().manual_seed(out + bits)
    values = torch.randint(-half, half, (out, width), generator=generator).to(torch.int8)
    scale = torch.rand(out, width // group, generator=generator).add(0.01).bfloat16().float()
    form = WeightLayout(shape=(out, width), bits=bits, group=group, **more)
    zero = torch.ones_like(scale).to(torch.int8) if form.zero else None
    return QuantizedWeight(form=form, values=values, scale=scale, zero=zero)


def quantized_model(bits: int = 4, **more: object) -> tuple[Model, dict[str, QuantizedWeight]]:
    torch.manual_seed(0)
    model = Model(CONFIG).eval()
    weights = {
        name: quantized_layer(layer, bits, **more)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
    }
    install(model, weights)
    return model, weights


@settings(max_examples=30, deadline=None)
@given(bits=st.sampled_from((2, 3, 4, 6)), rows=st.integers(1, 5), columns=st.integers(1, 40))
def test_packed_values_come_back_and_take_their_bits_alone(bits, rows, columns):
    half = 2 ** (bits - 1)
    values = torch.randint(-half, half, (rows, columns)).to(torch.int8)
    packed = pack_bits(values, bits)
    assert packed.numel() == -(-rows * columns * bits // 8)
    assert torch.equal(unpack_bits(packed, bits, (rows, columns)), values)


def test_a_pair_of_torch_and_torchao_that_does_not_fit_is_named(monkeypatch):
    def fail():
        raise ImportError("cannot import name 'Int8Tensor'")

    monkeypatch.setattr(torchao_tensors, "_import", fail)
    torchao_tensors.names.cache_clear()
    try:
        with pytest.raises(CheckpointError, match=r"torchao [\d.]+ and torch [\d.]+\S* do not fit"):
            quantized_model(8)
    finally:
        monkeypatch.undo()
        torchao_tensors.names.cache_clear()
