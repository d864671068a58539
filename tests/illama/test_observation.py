"""What a model shows of itself, and what can be seen through its masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from illama.config import STEPS, Config
from illama.model import Model
from illama.observation import (
    PROBE_WANTED,
    SEGMENTER_WANTED,
    SOURCE_WANTED,
    WANTED,
    OutputSeen,
    batch_of,
    present,
)

SMALL = {"image_size": 16, "patch_size": 4, "width": 24, "heads": 3, "depth": 3, "classes": 5}
TINY_ROAD = {step: Config.at(step, "nano", **SMALL) for step in STEPS}
RELEASED = TINY_ROAD["soft-mask"]
FORMS = [
    *((step, 0.0) for step in STEPS),
    ("soft-mask", 0.5),
    ("soft-mask", 1.0),
    ("class-first-multiplicative", 0.5),
]


OF_MODEL = WANTED - SEGMENTER_WANTED - PROBE_WANTED - SOURCE_WANTED
"""What a model itself shows."""


@pytest.mark.parametrize(("step", "soft_mask"), FORMS)
def test_observing_gives_the_logits_of_forward(draw, pictures, step, soft_mask):
    config = TINY_ROAD[step]
    model, images = draw(config), pictures(config)
    *_, seen = model.observe(images, WANTED, soft_mask)
    torch.testing.assert_close(seen.logits, model(images, soft_mask), rtol=1e-5, atol=1e-5)
    features = model.encode(images, soft_mask)
    torch.testing.assert_close(seen.features, features, rtol=1e-5, atol=1e-5)


# What is seen


def test_a_layer_shows_maps_that_belong_together(draw, pictures):
    model, images = draw(RELEASED), pictures(RELEASED)
    *blocks, output = model.observe(images, WANTED, 0.25)
    assert [layer.index for layer in blocks] == [1, 2, 3]
    assert isinstance(output, OutputSeen)
    for number, layer in enumerate(blocks):
        assert layer.used.shape == (2, 3, 17, 17)
        assert layer.tokens.shape == (2, 17, 24)
        assert layer.class_index == 16
        torch.testing.assert_close(layer.used, layer.softmax * layer.factor)
        torch.testing.assert_close(layer.softmax.sum(-1), torch.ones(2, 3, 17))
        before = blocks[number - 1].used if number else None
        assert layer.previous is before


@pytest.mark.parametrize("step", STEPS)
def test_weights_stand_only_where_the_layer_says_they_can(draw, pictures, step):
    config = TINY_ROAD[step]
    for layer in list(draw(config).observe(pictures(config), {"used"}))[:-1]:
        assert not layer.used[..., ~layer.open].any()
        assert layer.used[..., layer.open].gt(0).all()


@pytest.mark.parametrize("name", sorted(OF_MODEL))
def test_only_what_is_wanted_is_kept(draw, pictures, name):
    pieces = list(draw(RELEASED).observe(pictures(RELEASED), {name}))
    kept = {f for piece in pieces for f in OF_MODEL if getattr(piece, f, None) is not None}
    assert kept == {name}
    assert len(pieces) == (1 if name in ("logits", "features") else 4)


def test_wanting_something_unknown_is_refused(draw, pictures):
    with pytest.raises(ValueError, match="'colour' is not one of"):
        list(draw(RELEASED).observe(pictures(RELEASED), {"colour"}))


def test_observing_computes_one_block_at_a_time(draw, pictures):
    model, images = draw(RELEASED), pictures(RELEASED)
    ran: list[int] = []
    for number, block in enumerate(model.blocks):
        block.feed_forward.register_forward_hook(lambda *_, number=number: ran.append(number))
    pieces = model.observe(images, {"used"})
    next(pieces)
    assert ran == [0]


# Masks and what can be seen through them


def tokens_of(model: Model, images: Tensor) -> Tensor:
    """Return the tokens behind the last block, [image, token, channel]."""
    *_, last, _ = model.observe(images, {"tokens"})
    return last.tokens


def with_last_patch_changed(images: Tensor) -> Tensor:
    changed = images.clone()
    changed[:, :, -4:, -4:] += 1
    return changed


def test_under_the_additive_mask_no_token_depends_on_a_later_one(draw, pictures):
    model, images = draw(TINY_ROAD["rope-and-learned"]), pictures(RELEASED)
    moved = (tokens_of(model, images) - tokens_of(model, with_last_patch_changed(images))).abs()
    assert moved[:, :15].max() == 0
    assert moved[:, 15].max() > 0
    assert moved[:, 16].max() > 0


def test_under_the_multiplicative_mask_later_tokens_act_through_the_denominator(draw, pictures):
    model, images = draw(RELEASED), pictures(RELEASED)
    moved = (tokens_of(model, images) - tokens_of(model, with_last_patch_changed(images))).abs()
    assert moved[:, 0].max() > 0


def test_a_class_token_in_front_of_an_additive_mask_never_sees_the_image(draw, pictures):
    model = draw(TINY_ROAD["class-first-causal"])
    logits = model(pictures(RELEASED, 4))
    assert torch.equal(logits, logits[:1].expand_as(logits))


@pytest.mark.parametrize("step", ["class-first-multiplicative", "modified-mask", "soft-mask"])
def test_the_other_placements_let_the_class_token_see_the_image(draw, pictures, step):
    logits = draw(TINY_ROAD[step])(pictures(RELEASED, 2))
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_a_field_that_was_not_wanted_cannot_be_used_unseen(draw, pictures):
    layer, *_ = draw(RELEASED).observe(pictures(RELEASED), {"used"})
    assert present(layer.used, "used") is layer.used
    with pytest.raises(ValueError, match="'softmax' was not requested"):
        present(layer.softmax, "softmax")
    with pytest.raises(ValueError, match="has no batch"):
        batch_of(layer)
