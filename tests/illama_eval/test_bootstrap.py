"""Weights of images in groups: alike inside a group, products where groups cross."""

from __future__ import annotations

import pytest
import torch

from illama_eval.bootstrap import (
    REPLICATE_SCHEME,
    keys_of,
    keys_of_groups,
    scheme_of,
    weights_for,
    weights_of,
)

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
