from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from illama.checkpoint import torchao_tensors
from illama.checkpoint.quantized import pack_bits, unpack_bits
from illama.config import Config
from illama.files import CheckpointError

CONFIG = Config(image_size=16, patch_size=8, width=32, depth=2, heads=2, classes=8)


@settings(max_examples=30)
@given(bits=st.sampled_from((2, 3, 4, 6)), rows=st.integers(1, 5), columns=st.integers(1, 40))
def test_packed_values_come_back_and_take_their_bits_alone(bits, rows, columns):
    half = 2 ** (bits - 1)
    values = torch.randint(-half, half, (rows, columns)).to(torch.int8)
    packed = pack_bits(values, bits)
    assert packed.numel() == -(-rows * columns * bits // 8)
    assert torch.equal(unpack_bits(packed, bits, (rows, columns)), values)


def test_a_pair_of_torch_and_torchao_that_does_not_fit_is_named(quantized_model, monkeypatch):
    def fail():
        raise ImportError("cannot import name 'Int8Tensor'")

    monkeypatch.setattr(torchao_tensors, "_import", fail)
    torchao_tensors.names.cache_clear()
    try:
        with pytest.raises(
            CheckpointError, match=r"torchao [\d.]+ and torch [\d.]+\S* are incompatible"
        ):
            quantized_model(8)
    finally:
        monkeypatch.undo()
        torchao_tensors.names.cache_clear()
