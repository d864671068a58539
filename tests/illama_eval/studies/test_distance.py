"""Distance: known answers of made-up maps, every masking, and rows whatever the batches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from illama.config import Config
from illama.model import Model
from illama.observation import LayerSeen, OutputSeen
from illama.rollout import extend_rollout
from illama_eval.functional.patch_distance import distances
from illama_eval.studies.distance import Distance
from illama_eval.study import accumulate

PATCHES = 4


def layer(used, class_index=PATCHES, factor=None, **more):
    length = used.shape[-1]
    first = class_index == 0
    return LayerSeen(
        index=1,
        open=torch.ones(length, length).bool(),
        class_index=class_index,
        image_tokens=slice(1, PATCHES + 1) if first else slice(0, PATCHES),
        factor=factor,
        used=used,
        rollout=extend_rollout(None, used),
        **more,
    )


@pytest.fixture(name="find")
def fixture_find(make_batch):
    """A function that runs the study on one layer and returns its rows by metric and place."""

    def find(seen, sizes=None):
        study, total, first = Distance(), {}, 0
        images = len(seen.used)
        for size in sizes or (images,):
            chosen = range(first, first + size)
            batch = make_batch(torch.zeros(images), chosen)
            part = replace(seen, used=seen.used[chosen], rollout=seen.rollout[chosen], batch=batch)
            accumulate(total, study.measure(part))
            accumulate(total, study.measure(OutputSeen(batch=batch)))
            first += size
        return {(r.metric, *r.at.values()): r for r in study.summarize(total).rows}

    return find


def test_a_head_that_looks_at_itself_looks_nowhere_and_an_even_one_as_far_as_equal_scores(find):
    own, even = torch.eye(5), torch.full((5, 5), 0.2)
    found = find(layer(torch.stack((own, even))[None].repeat(3, 1, 1, 1)))
    far = (2 + math.sqrt(2)) / 4
    assert found["attention_distance", 1, 1].value == 0
    assert found["attention_distance", 1, 2].value == pytest.approx(far)
    assert found["relative_distance", 1, 2].value == pytest.approx(1)
    assert found["attention_distance", 1].value == pytest.approx(far / 2)


def test_lost_mass_does_not_change_distances_or_rollout(find):
    torch.manual_seed(0)
    whole = torch.randn(6, 1, 5, 5).softmax(-1)
    lost = whole * torch.rand(6, 1, 5, 1)
    for one, other in zip(find(layer(whole)).values(), find(layer(lost)).values(), strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-5)


def test_the_view_of_the_class_token_by_raster_row(find):
    used = torch.eye(5)
    used[4] = torch.tensor([0.3, 0.1, 0.2, 0.2, 0.2])
    found = find(layer(used[None, None].repeat(2, 1, 1, 1)))
    share = torch.tensor([0.3, 0.1, 0.2, 0.2]) / 0.8
    assert found["rollout_mass", 1].value == pytest.approx(0.5)
    assert found["rollout_mass", 2].value == pytest.approx(0.5)
    assert found["rollout_first_half", 1].value == pytest.approx(0.5)
    spread = float((-share * share.log()).sum().exp()) / 4
    assert found[("rollout_spread",)].value == pytest.approx(spread)


def test_without_a_class_token_the_view_is_the_mean_of_the_patches(find):
    used = torch.zeros(2, 1, 4, 4)
    used[..., 0] = 1
    found = find(layer(used, None))
    assert found[("rollout_first_half",)].value == pytest.approx(0.5 + 0.5 * 0.5)
    looked = distances(4)[:, 0].mean()
    assert found[("attention_distance",)].value == pytest.approx(float(looked))


def test_a_class_token_in_front_of_a_causal_mask_has_no_view(find):
    used = torch.ones(5, 5).tril()
    found = find(layer((used / used.sum(-1, keepdim=True)).repeat(2, 1, 1, 1), 0))
    assert found[("rollout_first_half",)].value is None
    assert "no row has attention on patches" in found[("rollout_first_half",)].reason
    assert found[("attention_distance",)].value > 0


def test_batches_do_not_change_the_rows_and_broken_images_are_left_out(find):
    torch.manual_seed(0)
    used = torch.randn(9, 2, 5, 5).softmax(-1)
    whole, parts = find(layer(used)), find(layer(used), (1, 6, 2))
    assert {key: row.value for key, row in whole.items()} == {
        key: pytest.approx(row.value) for key, row in parts.items()
    }
    broken = torch.cat((used, torch.full((1, 2, 5, 5), math.nan)))
    assert find(layer(broken))[("rollout_spread",)].value == pytest.approx(
        whole[("rollout_spread",)].value
    )


@pytest.mark.parametrize(
    ("masking", "place", "soft"),
    [
        ("multiplicative", "last", 0.0),
        ("multiplicative", "last", 0.5),
        ("additive", "last", 0.0),
        ("modified", "first", 0.0),
        ("none", "first", 0.0),
    ],
)
def test_equal_scores_have_the_relative_distance_one_under_every_mask(
    masking, place, soft, make_batch
):
    config = Config(
        image_size=16, patch_size=4, width=16, depth=3, heads=2, classes=3, masking=masking,
        class_token=place,
    )  # fmt: skip
    model, study, total = Model(config, path="explicit").eval(), Distance(), {}
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.weight.zero_()
            block.attention.qkv.bias.zero_()
        batch = make_batch(torch.zeros(2))
        for piece in model.observe(torch.randn(2, 3, 16, 16), study.wants, soft):
            accumulate(total, study.measure(replace(piece, batch=batch)))
    found = {(r.metric, *r.at.values()): r.value for r in study.summarize(total).rows}
    assert found[("relative_distance",)] == pytest.approx(1)
    assert sum(found["rollout_mass", number] for number in range(1, 5)) == pytest.approx(1)
    if masking != "none":  # early patches reach the head on more ways
        assert found[("rollout_first_half",)] > 0.54
    assert found[("even_first_half",)] == pytest.approx(found[("rollout_first_half",)])
