"""Incremental passes: equal to the whole pass, cheap, and refused where they cannot be exact."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from illama.config import Config
from illama.model import Model


@pytest.fixture(name="model", params=["both", "learned", "rotary"])
def fixture_model(request):
    torch.manual_seed(0)
    config = Config(
        image_size=32, patch_size=4, width=24, depth=3, heads=2, classes=5, masking="additive",
        position=request.param,
    )  # fmt: skip
    model = Model(config, path="explicit").eval().requires_grad_(False)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(5)
    return model


@torch.no_grad()
def test_row_by_row_gives_the_logits_of_every_prefix_and_of_the_whole(model):
    images, state = torch.randn(2, 3, 32, 32), None
    for row in range(8):
        state = model.extend(state, images[:, :, 4 * row : 4 * row + 4])
        *_, seen = model.observe(images, {"logits"}, patches=8 * (row + 1))
        assert torch.allclose(model.read(state), seen.logits, atol=1e-5)
    assert torch.allclose(model.read(state), model(images), atol=1e-5)


@torch.no_grad()
def test_several_rows_at_once_are_the_same_as_one_by_one(model):
    images = torch.randn(2, 3, 32, 32)
    state = model.extend(model.extend(None, images[:, :, :12]), images[:, :, 12:])
    assert torch.allclose(model.read(state), model(images), atol=1e-5)


@torch.no_grad()
def test_a_further_row_costs_at_most_a_quarter_of_the_whole(model):
    images = torch.randn(1, 3, 32, 32)
    state = model.extend(None, images[:, :, :28])
    with FlopCounterMode(display=False) as row:
        model.read(model.extend(state, images[:, :, 28:]))
    with FlopCounterMode(display=False) as whole:
        model(images)
    assert row.get_total_flops() <= 0.25 * whole.get_total_flops()


def test_the_released_mask_is_refused_with_the_reason():
    model = Model(Config(image_size=16, patch_size=4, width=16, depth=1, heads=2, classes=3))
    with pytest.raises(ValueError, match=r"follows the softmax.*no prefix can be kept exactly"):
        model.extend(None, torch.zeros(1, 3, 4, 16))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("vit", "'none' and first; every patch sees all later ones"),
        ("class-first-causal", "'additive' and first; a class token in front sees no patch"),
        ("modified-mask", "'modified' and first; the class token in front sees all patches"),
        ("class-first-multiplicative", "'multiplicative' and first; the released mask follows"),
    ],
)
def test_every_other_step_of_the_road_is_refused_with_its_own_reason(step, why):
    with pytest.raises(ValueError, match=why):
        Model(Config.at(step, "nano", depth=1)).extend(None, torch.zeros(1, 3, 4, 32))


@pytest.mark.parametrize("rows", [0, 3, 36])
def test_a_strip_that_does_not_fit_is_refused(model, rows):
    with pytest.raises(ValueError, match="strip"):
        model.extend(None, torch.zeros(1, 3, rows, 32))


def test_the_first_patches_alone_are_a_shorter_sequence(model):
    for patches in (0, 65):
        with pytest.raises(ValueError, match="number of patches"):
            list(model.observe(torch.zeros(1, 3, 32, 32), {"logits"}, patches=patches))
