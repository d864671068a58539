from __future__ import annotations

import numpy as np
import pytest
import torch

from illama.training.mixup import Mixing, cross_entropy, cut, draw_mixing
from illama.training.recipe import find_recipe

RECIPE = find_recipe("demo").override(["mixup=0.8", "cutmix=1.0"])


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture
def images():
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_mixup_blends_every_image_with_its_mirror_in_the_batch(images):
    mixing = Mixing(0.7)
    assert torch.allclose(mixing.blend(images)[1], 0.7 * images[1] + 0.3 * images[3])
    targets = mixing.targets(torch.tensor([0, 1, 2, 3, 4]), 10, smoothing=0.0)
    assert targets[1].tolist() == pytest.approx([0, 0.7, 0, 0.3, 0, 0, 0, 0, 0, 0])
    assert targets[2, 2] == 1


def test_cutmix_swaps_a_rectangle_and_its_share_of_the_target(images):
    mixing = cut(0.75, 8, 4, 0)  # four pixels long, half of it outside
    assert mixing == Mixing(1 - 8 / 64, (slice(2, 6), slice(0, 2)))
    blended = mixing.blend(images)
    assert torch.equal(blended[0, :, 2:6, :2], images[4, :, 2:6, :2])
    assert (blended != images)[0].sum() == 3 * 8


def test_an_unmixed_batch_is_left_alone_and_smoothed(images):
    assert Mixing().blend(images) is images
    targets = Mixing().targets(torch.tensor([2]), 4, smoothing=0.1)
    assert targets[0].tolist() == pytest.approx([0.025, 0.025, 0.925, 0.025])


def test_the_loss_of_smoothed_targets_is_torchs():
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6)
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.allclose(cross_entropy(logits, Mixing().targets(labels, 10, 0.1)), expected)


def test_draws_follow_the_recipes_probabilities():
    random = generator()
    drawn = [draw_mixing(RECIPE, 8, random) for _ in range(1000)]
    assert np.mean([each.box is not None for each in drawn]) == pytest.approx(0.5, abs=0.05)
    rare = RECIPE.override(["mixup_prob=0.25", "switch_prob=0"])
    drawn = [draw_mixing(rare, 8, random) for _ in range(1000)]
    assert np.mean([each.share < 1 for each in drawn]) == pytest.approx(0.25, abs=0.05)
    assert all(each.box is None for each in drawn)
    assert draw_mixing(find_recipe("demo"), 8, random) == Mixing()
    assert draw_mixing(RECIPE.override(["mixup=0"]), 8, random).box is not None


def test_blending_and_targets_are_timms(reference, images, monkeypatch):
    timm = reference("timm.data.mixup")
    np_random, mixup_target, rand_bbox = timm.np.random, timm.mixup_target, timm.rand_bbox

    labels = torch.tensor([0, 1, 2, 3, 4])
    expected = mixup_target(labels, 10, 0.3, 0.1)
    assert torch.allclose(Mixing(0.3).targets(labels, 10, 0.1), expected)
    for seed in range(30):
        share, row, column = generator(seed).random(3)
        centres = iter([int(row * 8), int(column * 8)])
        monkeypatch.setattr(np_random, "randint", lambda *_, size=None, c=centres: next(c))
        top, bottom, left, right = rand_bbox((3, 8, 8), share)
        assert cut(share, 8, int(row * 8), int(column * 8)).box == (
            slice(top, bottom),
            slice(left, right),
        )
