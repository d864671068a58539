from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from illama_eval.subjects.recording import Recorder, form_map

QUERY, KEY, VALUE = torch.randn(3, 2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).unbind(0)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))},
        {"attn_mask": torch.ones(5, 5).tril().bool()},
        {"attn_mask": torch.ones(5, 5).tril().log()},
    ],
)
def test_the_map_times_the_values_is_torchs_fused_attention(given: dict[str, Tensor]) -> None:
    seen = form_map(QUERY, KEY, VALUE, **given)
    expected = functional.scaled_dot_product_attention(QUERY, KEY, VALUE, **given)
    torch.testing.assert_close(seen.used @ seen.values, expected)


def test_shared_keys_are_repeated_for_the_queries_heads() -> None:
    key, value = KEY[:, :1], VALUE[:, :1]
    seen = form_map(QUERY, key, value, enable_gqa=True)
    expected = functional.scaled_dot_product_attention(QUERY, key, value, enable_gqa=True)
    torch.testing.assert_close(seen.used @ seen.values, expected)


def test_a_mask_closes_keys_in_the_used_map_and_not_in_the_softmax() -> None:
    mask = torch.ones(5, 5).tril().bool()
    seen = form_map(QUERY, KEY, VALUE, attn_mask=mask)
    assert torch.equal(seen.open[0, 0], mask)
    assert not seen.used[..., ~mask].any()
    torch.testing.assert_close(seen.softmax, form_map(QUERY, KEY, VALUE).used)
    assert form_map(QUERY, KEY, VALUE, attn_mask=torch.zeros(5, 5)).open is None


def test_maps_of_16_bit_queries_are_formed_in_float32() -> None:
    halves = QUERY.bfloat16(), KEY.bfloat16(), VALUE.bfloat16()
    assert form_map(*halves).used.dtype == torch.float32


def test_what_becomes_of_a_softmax_is_followed_to_its_product() -> None:
    seen = []
    with Recorder(2, seen.append):
        weights = (QUERY @ KEY.mT).softmax(-1)
        mixed = (weights.movedim(1, -1) @ torch.ones(3, 3)).movedim(-1, 1)
        found = mixed @ VALUE
        (VALUE.mT @ VALUE).sum()
    (attention,) = seen
    assert attention.used is mixed
    assert attention.softmax is weights
    torch.testing.assert_close(attention.used @ attention.values, found)


def test_a_replacement_takes_the_place_of_the_product() -> None:
    with Recorder(2, lambda seen: 0 * seen.used @ seen.values):
        eager = (QUERY @ KEY.mT).softmax(-1) @ VALUE
        fused = functional.scaled_dot_product_attention(QUERY, KEY, VALUE)
    assert not eager.any()
    assert not fused.any()
