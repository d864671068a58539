"""Weights of images in groups: alike inside a group, products where groups cross."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from illama_eval.bootstrap import (
    REPLICATE_SCHEME,
    key_of,
    keys_of,
    keys_of_groups,
    scheme_of,
    weights_for,
    weights_of,
)
from illama_eval.statistics import REPLICATES

VIDEOS = {"groups": ["a"] * 3 + ["b"] * 2 + ["c"]}


def test_images_of_a_group_weigh_alike_and_groups_differ():
    weights = weights_of(keys_of_groups(VIDEOS))
    assert torch.equal(weights[0], torch.ones(6, dtype=torch.float64))
    assert torch.equal(weights[:, 0], weights[:, 2])
    assert not torch.equal(weights[:, 0], weights[:, 3])


def test_where_groups_cross_a_weight_is_the_product_of_independent_streams():
    ways = {"shape": ["x", "x", "y"], "texture": ["x", "y", "y"]}
    weights = weights_of(keys_of_groups(ways))
    alone = [weights_of(keys_of_groups({way: names})) for way, names in ways.items()]
    assert torch.equal(weights, alone[0] * alone[1])
    assert not torch.equal(alone[0][:, 0], alone[1][:, 0])  # the same name in the two ways


def test_without_groups_weights_are_those_of_the_ids():
    ids = ["test/1", "test/2"]
    assert torch.equal(weights_for(ids, None), weights_of(keys_of(ids)))
    assert scheme_of(None) == REPLICATE_SCHEME
    assert scheme_of(VIDEOS) == f"{REPLICATE_SCHEME}, groups: 3 by groups"


def test_the_spread_of_a_mean_is_that_of_the_groups():
    names = [f"video {number // 20}" for number in range(4000)]
    values = torch.randn(200, generator=torch.Generator().manual_seed(0)).double()
    values = values.repeat_interleave(20)
    spread = {}
    for kind, groups in (("images", None), ("groups", {"groups": names})):
        weights = weights_for([str(n) for n in range(4000)], groups)
        spread[kind] = float(((weights @ values) / weights.sum(1))[1:].std())
    expected = float(values.std()) / 200**0.5
    assert spread["groups"] == pytest.approx(expected, rel=0.15)
    assert spread["images"] == pytest.approx(expected / 20**0.5, rel=0.15)


IDS = [f"n01440764/image-{number}" for number in range(5000)]


def test_weights_are_poisson_with_mean_and_variance_one():
    weights = weights_of(keys_of(IDS))
    assert torch.equal(weights[0], torch.ones(len(IDS), dtype=torch.float64))
    drawn = weights[1:]
    cells = drawn.numel()
    assert drawn.mean().item() == pytest.approx(1, abs=5 / math.sqrt(cells))
    assert drawn.var().item() == pytest.approx(1, abs=5 * math.sqrt(3 / cells))
    for count in range(4):
        share = (drawn == count).double().mean().item()
        assert share == pytest.approx(math.exp(-1) / math.factorial(count), abs=2e-3)


def test_replicates_are_uncorrelated_with_each_other_and_images_too():
    drawn = weights_of(keys_of(IDS))[1:].numpy()
    between_replicates = np.corrcoef(drawn)[np.triu_indices(REPLICATES, 1)]
    assert np.abs(between_replicates).max() < 6 / math.sqrt(len(IDS))
    between_images = np.corrcoef(drawn[:, :300].T)[np.triu_indices(300, 1)]
    assert np.abs(between_images).max() < 6 / math.sqrt(REPLICATES)
    assert abs(between_images.mean()) < 1e-2


@settings(max_examples=20)
@given(order=st.permutations(range(12)), cut=st.integers(1, 11))
def test_a_weight_depends_on_the_image_alone(order, cut):
    whole = weights_of(keys_of(IDS[:12]))
    parts = (order[:cut], order[cut:])
    pieces = torch.cat([weights_of(keys_of([IDS[i] for i in part])) for part in parts], dim=1)
    assert torch.equal(pieces, whole[:, order])


def test_keys_and_weights_follow_the_published_hashes():
    assert key_of("test/00017") == -1214393448039141016
    ids = ["test/00017", "\N{SNOWMAN}", "\udc80"]
    expected = [[poisson(key_of(each), number) for each in ids] for number in range(REPLICATES)]
    assert weights_of(keys_of(ids))[1:].tolist() == expected


def poisson(key: int, replicate: int) -> int:
    """Return one weight by the definitions, in whole-number arithmetic."""
    mask = 2**64 - 1
    word = splitmix64((splitmix64(key & mask) + (replicate + 1) * 0x9E3779B97F4A7C15) & mask)
    uniform = (word >> 11) / 2**53
    count, share = 0, math.exp(-1)
    while uniform >= share:
        count += 1
        share += math.exp(-1) / math.factorial(count)
    return count


def splitmix64(state: int) -> int:
    mask = 2**64 - 1
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & mask
    return state ^ (state >> 31)
