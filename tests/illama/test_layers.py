"""The parts of the network against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from illama.layers import LayerNorm, RMSNorm, RotaryTable, SwiGLU, halves_first

TOKENS, HEAD = 9, 8


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def heads(*shape: int) -> Tensor:
    return torch.randn(2, 3, *(shape or (TOKENS, HEAD)))


def test_rms_norm_is_torchs():
    norm, tokens = RMSNorm(12), torch.randn(2, 5, 12)
    torch.nn.init.normal_(norm.weight)
    expected = functional.rms_norm(tokens, (12,), norm.weight, eps=1e-6)
    torch.testing.assert_close(norm(tokens), expected)


def test_rms_norm_works_in_fp32_where_half_precision_would_overflow():
    tokens = torch.full((1, 1, 12), 1000.0, dtype=torch.float16)
    seen = RMSNorm(12).half()(tokens)
    assert seen.dtype == torch.float16
    assert torch.equal(seen, torch.ones_like(seen))


def test_norms_have_the_epsilon_of_the_released_weights():
    tokens = torch.full((1, 1, 4), 1e-3)
    torch.testing.assert_close(RMSNorm(4)(tokens), torch.full((1, 1, 4), math.sqrt(0.5)))
    assert LayerNorm(4).eps == 1e-6


def test_swiglu_gates_with_silu_and_has_no_biases():
    layer, tokens = SwiGLU(4, 6), torch.randn(2, 3, 4)
    gate = tokens @ layer.gate.weight.T
    expected = (gate / (1 + (-gate).exp()) * (tokens @ layer.up.weight.T)) @ layer.down.weight.T
    torch.testing.assert_close(layer(tokens), expected)
    assert all(parameter.ndim == 2 for parameter in layer.parameters())


def turn_released(channels: Tensor) -> Tensor:
    """Rotate neighbouring channels as complex numbers, as the released code does."""
    frequency = 10_000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)
    angle = torch.outer(torch.arange(channels.shape[-2]), frequency)
    pairs = torch.view_as_complex(channels.reshape(*channels.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def halved(channels: Tensor) -> Tensor:
    """Put even channels before odd ones."""
    return torch.cat((channels[..., 0::2], channels[..., 1::2]), dim=-1)


def test_rotation_is_the_complex_product_of_the_released_code():
    queries = heads()
    seen = RotaryTable(TOKENS, HEAD).rotate(halved(queries))
    torch.testing.assert_close(seen, halved(turn_released(queries)))


def test_rotation_keeps_lengths_and_leaves_position_0_alone():
    table, queries = RotaryTable(TOKENS, HEAD), heads()
    turned = table.rotate(queries)
    torch.testing.assert_close(turned.norm(dim=-1), queries.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], queries[:, :, 0])


def test_scores_depend_on_the_distance_of_positions_alone():
    table = RotaryTable(TOKENS, HEAD)
    query, key = torch.randn(HEAD), torch.randn(HEAD)
    queries = table.rotate(query.expand(TOKENS, HEAD))
    scores = queries @ table.rotate(key.expand(TOKENS, HEAD)).T
    for distance in range(-TOKENS + 1, TOKENS):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-5)


def test_rotating_some_rows_is_taking_them_from_all():
    table, queries = RotaryTable(TOKENS, HEAD), heads()
    rows = slice(4, 7)
    seen = table.rotate(queries[:, :, rows], rows)
    assert torch.equal(seen, table.rotate(queries)[:, :, rows])


def test_rotary_tables_stay_fp32_in_a_model_of_low_precision():
    table = RotaryTable(600, HEAD).bfloat16()
    assert table.cosine.dtype == torch.float32
    assert torch.equal(table.cosine, RotaryTable(600, HEAD).cosine)
    assert table.rotate(heads(600, HEAD).bfloat16()).dtype == torch.bfloat16
    assert not table.state_dict()


def test_the_order_in_memory_takes_every_row_once_and_leaves_values_in_place():
    order = halves_first(24, 3)
    assert torch.equal(order.sort().values, torch.arange(72))
    assert torch.equal(order[48:], torch.arange(48, 72))
    assert order[:8].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert order[24:32].tolist() == [24, 26, 28, 30, 25, 27, 29, 31]
