"""Rounding weights: torchao's own numbers, clipping that pays, corrections that help."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchao.quantization.quant_primitives import (
    MappingType,
    choose_qparams_affine,
    quantize_affine,
)

from illama_eval.quantize.rounding import round_scale, round_weight


@pytest.fixture(scope="module")
def weight() -> Tensor:
    return torch.randn(24, 64, generator=torch.Generator().manual_seed(1)) * 0.05


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    """Return correlated inputs [row, channel], as networks have them."""
    generator = torch.Generator().manual_seed(2)
    mixed = torch.randn(64, 64, generator=generator) * torch.rand(64, generator=generator)
    return torch.randn(512, 64, generator=generator) @ mixed


def restore(values: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    grouped = values.float().view(len(values), scale.shape[1], -1)
    shifted = grouped if zero is None else grouped - zero.float()[..., None]
    return (shifted * scale[..., None]).view(values.shape)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_the_nearest_rounding_is_torchaos_with_scales_in_bf16(weight, bits, asymmetric):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    mapping = MappingType.ASYMMETRIC if asymmetric else MappingType.SYMMETRIC
    block = (1, 32)
    scale, _ = choose_qparams_affine(
        weight, mapping, block, torch.int8, low, high, zero_point_dtype=torch.int8, keepdim=True
    )
    values, ours, zero = round_weight(weight, bits, 32, asymmetric=asymmetric)
    assert torch.equal(ours, round_scale(scale))
    shift = torch.zeros_like(ours, dtype=torch.int8) if zero is None else zero
    theirs = quantize_affine(weight, block, ours, shift, torch.int8, low, high)
    assert torch.equal(values, theirs)


@pytest.mark.parametrize("rounding", ["nearest", "mse", "gptq"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_values_stay_within_their_bits_and_scales_are_bf16_numbers(weight, inputs, rounding, bits):
    gram = inputs.double().T @ inputs.double()
    values, scale, _ = round_weight(weight, bits, 16, rounding=rounding, gram=gram)
    assert -(2 ** (bits - 1)) <= int(values.min())
    assert int(values.max()) < 2 ** (bits - 1)
    assert torch.equal(scale, scale.bfloat16().float())
    assert (scale > 0).all()


@pytest.mark.parametrize("asymmetric", [False, True])
def test_clipping_never_leaves_a_larger_error(weight, asymmetric):
    errors = [
        (restore(*round_weight(weight, 3, 32, asymmetric=asymmetric, rounding=r)) - weight)
        .square()
        .view(24, 2, 32)
        .sum(-1)
        for r in ("nearest", "mse")
    ]
    assert (errors[1] <= errors[0] + 1e-9).all()
    assert errors[1].sum() < errors[0].sum()


@pytest.mark.parametrize("bits", [3, 4])
def test_gptq_halves_the_error_of_the_outputs(weight, inputs, bits):
    gram = inputs.double().T @ inputs.double()
    errors = {
        name: (
            (restore(*round_weight(weight, bits, 16, rounding=name, gram=gram)) - weight) @ inputs.T
        )
        .square()
        .sum()
        for name in ("nearest", "gptq")
    }
    assert errors["gptq"] < 0.6 * errors["nearest"]


def test_gptq_of_uncorrelated_inputs_is_the_clipped_rounding(weight):
    plain = round_weight(weight, 4, 16, rounding="mse")
    corrected = round_weight(weight, 4, 16, rounding="gptq", gram=torch.eye(64).double())
    assert torch.equal(plain[0], corrected[0])
    assert torch.equal(plain[1], corrected[1])


def test_gptq_carries_errors_over_blocks_of_columns_as_in_one(weight, inputs, monkeypatch):
    gram = inputs.double().T @ inputs.double()
    whole = round_weight(weight, 4, 16, rounding="gptq", gram=gram)
    for block in (16, 24):
        monkeypatch.setattr("illama_eval.quantize.rounding.BLOCK", block)
        parts = round_weight(weight, 4, 16, rounding="gptq", gram=gram)
        assert (whole[0] != parts[0]).float().mean() < 0.01


def test_channels_that_never_fire_do_not_break_gptq(weight, inputs):
    silent = inputs.clone()
    silent[:, 5] = 0
    values, *_ = round_weight(
        weight, 4, 16, rounding="gptq", gram=silent.double().T @ silent.double()
    )
    assert (values[:, 5] == 0).all()
