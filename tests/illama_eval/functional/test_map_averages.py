"""Sums of maps by slot, against the product that they are."""

from __future__ import annotations

import torch

from illama_eval.functional.map_averages import DRAWN, Slots, sum_by_slot


def test_an_image_is_added_in_its_group_and_in_its_draw():
    random = torch.Generator().manual_seed(0)
    maps = torch.rand(70, 2, 5, 5, generator=random)
    order = torch.randperm(70, generator=random)
    slots = Slots(groups=4, draws=3)
    members = slots.members(order, 70)
    assert members.sum(0).tolist() == [2.0 if place < 2 * DRAWN else 1.0 for place in order]
    sums = sum_by_slot(maps, members).to_dense()
    assert sums.dtype == torch.float64
    expected = torch.einsum("si,ihqk->shqk", members, maps.double())
    torch.testing.assert_close(sums, expected, rtol=1e-14, atol=0)
    few = sum_by_slot(maps[:2], members[:, :2])
    assert few.values().shape[0] <= 4, "a slot without an image takes no memory"
    torch.testing.assert_close(
        few.to_dense(), torch.einsum("si,ihqk->shqk", members[:, :2], maps[:2].double())
    )
    first = maps[(order < 18).nonzero()[:, 0]].double().sum(0)
    torch.testing.assert_close(sums[0], first, rtol=1e-14, atol=0)


def test_no_image_adds_nothing():
    sums = sum_by_slot(torch.rand(0, 2, 5, 5), torch.zeros(7, 0, dtype=torch.float64)).to_dense()
    assert sums.shape == (7, 2, 5, 5)
    assert not sums.any()


def test_large_maps_have_fewer_groups_and_draws():
    assert Slots.of(torch.Size((3, 197, 197)), 1) == Slots(groups=20, draws=10)
    large = Slots.of(torch.Size((16, 197, 197)), 1)
    assert 2 <= large.groups < 20
    assert (large.groups + large.draws) * 24 * 16 * 197**2 * 8 <= 2**30


def test_the_curve_ends_with_all_images_which_are_averaged_once():
    slots = Slots(groups=4, draws=2)
    images = torch.tensor([20.0, 20, 20, 20, 30, 30], dtype=torch.float64)
    averages = slots.averages(images)
    assert len(averages.over.unique(dim=0)) == len(averages.over)
    numbers = averages.of(torch.arange(6.0, dtype=torch.float64)[:, None], images)[:, 0]
    curve = dict(averages.curve(numbers))
    assert list(curve) == [30.0, 60.0, 80.0]
    assert curve[80.0].tolist() == averages.jackknife(numbers)[:1].tolist() == [6 / 80]
    few = slots.averages(torch.tensor([8.0, 7, 8, 7, 30, 0], dtype=torch.float64))
    assert list(few.blocks) == [few.images] == [30.0], "a draw of all images is not drawn twice"
