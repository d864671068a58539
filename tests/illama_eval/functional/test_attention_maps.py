from __future__ import annotations

import math

import pytest
import torch

from illama_eval.functional.attention_maps import (
    above,
    by_blocks,
    column_cosines,
    relative_scale,
    row_entropy,
    strongest_key,
    sum_and_number,
)
from illama_eval.functional.map_pass import column_moments, sum_maps

CAUSAL = torch.ones(3, 3).tril().bool()


def test_maps_are_seen_in_double_precision_and_joined_in_order(monkeypatch):
    monkeypatch.setattr("illama_eval.functional.attention_maps.BLOCK_BYTES", 2 * 8 * 9)
    maps = torch.rand(3, 5, 3, 3)
    sizes = []

    def look(block):
        sizes.append(len(block))
        assert block.dtype == torch.float64
        return (block.sum((1, 2)),)

    (found,) = by_blocks(look, maps)
    assert sizes == [2] * 7 + [1]
    assert torch.equal(found, maps.double().sum((2, 3)).flatten())


def test_uniform_attention_has_the_relative_weight_one():
    inside = CAUSAL / CAUSAL.sum(-1, keepdim=True)
    assert (relative_scale(CAUSAL, None) * inside)[CAUSAL].tolist() == pytest.approx([1.0] * 6)
    factor = torch.full((3, 3), 0.25)
    assert relative_scale(CAUSAL, factor).tolist() == (4.0 * CAUSAL).tolist()


def sums(maps):
    """The sums over maps [map, query, key]."""
    return sum_maps(maps[None])


def cosines(left, right, open_):
    """Cosines of the columns of maps [map, query, key]."""
    return column_cosines(column_moments(left[None], right[None], open_, None), open_)


def test_entropy_is_that_of_the_renormalised_row():
    maps = torch.tensor([[[0.3, 0, 0], [0.1, 0.1, 0], [0.5, 0.25, 0.25]]]).double()
    first, second, third = row_entropy(sums(maps), CAUSAL)[0].tolist()
    assert math.isnan(first)  # one open key
    assert second == pytest.approx(math.log(2))
    assert third == pytest.approx(1.5 * math.log(2))
    assert row_entropy(sums(torch.zeros(1, 3, 3)), CAUSAL).isnan().all()


def test_columns_are_alike_up_to_scale_and_centred_ones_up_to_a_shift():
    left = torch.rand(2, 4, 4, dtype=torch.float64)
    whole = torch.ones(4, 4, dtype=torch.bool)
    centred, raw = cosines(left, 3 * left, whole)
    assert torch.allclose(centred, torch.ones_like(centred))
    assert torch.allclose(raw, torch.ones_like(raw))
    centred, raw = cosines(left, left + 5, whole)
    assert torch.allclose(centred, torch.ones_like(centred))
    assert (raw < 1 - 1e-6).all()
    centred, _ = cosines(left, torch.ones_like(left), whole)
    assert centred.isnan().all()


def test_columns_that_hardly_vary_keep_their_digits():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 1, 50, 50, generator=generator, dtype=torch.float64)
    left, right = 1 + 1e-5 * noise
    centred, _ = cosines(left, right, torch.ones(50, 50, dtype=torch.bool))
    one, other = (each - each.mean(1, keepdim=True) for each in (left, right))
    plain = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    assert torch.allclose(centred, plain, rtol=0, atol=1e-10)


def test_the_strongest_key_has_enough_rows():
    maps = torch.tensor([[[0.9, 0, 0], [0.5, 0.5, 0], [0.1, 0.1, 0.8]]]).double()
    for least_rows, share, key in ((1, 0.8, 2), (2, 0.5, 0)):
        strongest, place = strongest_key(sums(maps), CAUSAL, least_rows)
        assert strongest.item() == pytest.approx(share)
        assert place.item() == key
    assert strongest_key(sums(maps), CAUSAL, 4)[0].isnan().all()


def test_what_is_left_out_stays_out_of_sum_and_number():
    values = torch.tensor([[1.0, math.nan, 3.0], [math.nan] * 3]).double()
    assert torch.equal(above(values[0], 2.0).nan_to_num(9), torch.tensor([0.0, 9, 1]).double())
    found = sum_and_number(values, torch.tensor([True, False]))
    assert found[0].tolist() == [4, 2]
    assert found[1, 0].isnan()
    assert found[1, 1] == 0
