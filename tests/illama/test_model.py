"""The network against the released arithmetic, written out plainly here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from illama import layers
from illama.config import STEPS, Config
from illama.layers import halves_first
from illama.model import Model
from illama.observation import WANTED, LayerSeen

SMALL = {"image_size": 16, "patch_size": 4, "width": 24, "heads": 3, "depth": 3, "classes": 5}
TINY_ROAD = {step: Config.at(step, "nano", **SMALL) for step in STEPS}
RELEASED = TINY_ROAD["soft-mask"]
SHORT = replace(RELEASED, depth=2)
PATHS = ("explicit", "fused")
EVERY_FORM = [
    *((step, path, 0.0) for step in STEPS for path in PATHS),
    *(("soft-mask", path, soft_mask) for path in PATHS for soft_mask in (0.5, 1.0)),
    *(("class-first-multiplicative", path, 0.5) for path in PATHS),
]


def published(model: Model) -> dict[str, Tensor]:
    """Return the weights in float64 and in the published order, ready for gradients."""
    return {k: v.detach().double().requires_grad_() for k, v in model.state_dict().items()}


def gradients(model: Model) -> dict[str, Tensor]:
    """Return the gradients of the parameters in the published order."""
    found = {name: tensor.grad for name, tensor in model.named_parameters()}
    if model.config.position != "learned":
        order = halves_first(model.config.width, model.config.heads).argsort()
        found |= {name: grad[order] for name, grad in found.items() if ".qkv." in name}
    return found


def largest_difference(seen: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest expected number."""
    seen, expected = seen.detach(), expected.detach()
    scale = expected.abs().max().clamp_min(1e-12)
    return float((seen.double() - expected.double()).abs().max() / scale)


# Logits, maps and gradients


@pytest.mark.parametrize(("step", "path", "soft_mask"), EVERY_FORM)
def test_logits_are_those_of_the_released_arithmetic(draw, pictures, plain, step, path, soft_mask):
    config = TINY_ROAD[step]
    model, images = draw(config, path), pictures(config)
    expected = plain(published(model), config)(images.double(), soft_mask)
    assert largest_difference(model(images, soft_mask), expected) < 1e-5


@pytest.mark.parametrize(("step", "path", "soft_mask"), EVERY_FORM)
def test_gradients_are_those_of_the_plain_formula(draw, pictures, plain, step, path, soft_mask):
    config = TINY_ROAD[step]
    check_gradients(draw(config, path), plain, pictures(config), soft_mask)


def check_gradients(
    model: Model, plain: Callable[..., Any], images: Tensor, soft_mask: float
) -> None:
    """Compare the gradients of a weighted sum of logits with autograd of the plain formula."""
    weight = torch.linspace(-1, 1, 2 * model.config.classes).view(2, -1)
    weights = published(model)
    (plain(weights, model.config)(images.double(), soft_mask) * weight).sum().backward()
    (model(images, soft_mask) * weight).sum().backward()
    found = gradients(model)
    assert set(found) == set(weights)
    largest = max(tensor.grad.abs().max() for tensor in weights.values() if tensor.grad is not None)
    for name, tensor in weights.items():
        expected = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        seen = torch.zeros_like(tensor) if found[name] is None else found[name]
        assert (seen - expected).abs().max() < 1e-5 * largest, name


@pytest.mark.parametrize("step", STEPS)
def test_every_step_trains(pictures, step):
    config = Config.at(step, "nano")
    model = Model(config)
    loss = functional.cross_entropy(model(pictures(config)), torch.tensor([1, 2]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("vit", 683_242),
        ("swiglu", 680_362),
        ("rmsnorm", 679_114),
        ("rope-only", 672_874),
        ("soft-mask", 679_114),
    ],
)
def test_the_nano_model_has_the_parameters_it_should(step, expected):
    assert sum(p.numel() for p in Model(Config.at(step, "nano")).parameters()) == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile itself
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("soft_mask", [0.0, 0.5, 1.0])
def test_compiled_gradients_are_those_of_the_plain_formula(draw, pictures, plain, path, soft_mask):
    model = draw(SHORT, path)
    images = pictures(SHORT)
    expected = model(images, soft_mask)
    model.compile()
    assert largest_difference(model(images, soft_mask), expected) < 1e-5
    check_gradients(model, plain, images, soft_mask)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile itself
@torch.no_grad()
def test_compiled_paths_give_the_same_maps_and_logits(draw, pictures):
    model, images = draw(SHORT), pictures(SHORT)
    expected = list(model.observe(images, WANTED - {"lens", "rollout"}))
    model.compile_paths()
    for seen, piece in zip(model.observe(images, WANTED), expected, strict=True):
        name = "used" if isinstance(piece, LayerSeen) else "logits"
        assert largest_difference(getattr(seen, name), getattr(piece, name)) < 1e-5


# What is refused


def test_images_of_another_size_are_refused_with_advice(draw):
    with pytest.raises(ValueError, match=r"expected images \[image, 3, 16, 16\].*image_size="):
        draw(RELEASED)(torch.zeros(1, 3, 20, 20))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("step", ["vit", "post-sequence-class", "modified-mask"])
def test_a_soft_mask_is_refused_where_the_model_would_ignore_it(draw, pictures, step, path):
    model, images = draw(TINY_ROAD[step], path), pictures(TINY_ROAD[step])
    with pytest.raises(ValueError, match="multiplicative' only"):
        model(images, 0.5)
    with pytest.raises(ValueError, match="multiplicative' only"):
        list(model.observe(images, {"used"}, 0.5))


# Ways of computing


def test_soft_mask_1_is_no_mask_and_soft_mask_0_is_the_default(draw, pictures):
    model, images = draw(RELEASED), pictures(RELEASED)
    unmasked = Model(replace(RELEASED, masking="none")).eval()
    unmasked.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(images, 1.0), unmasked(images))
    assert torch.equal(model(images, 0.0), model(images))
    assert (model(images) - unmasked(images)).abs().max() > 1e-3


@pytest.mark.parametrize("soft_mask", [0.0, 0.5])
def test_long_sequences_in_chunks_give_the_same_logits(draw, pictures, monkeypatch, soft_mask):
    config = replace(RELEASED, image_size=84)
    assert config.tokens >= layers.CHUNKED_FROM
    model, images = draw(config), pictures(config)
    with torch.no_grad():
        chunked = model(images, soft_mask)
        monkeypatch.setattr(layers, "CHUNKED_FROM", 10**9)
        whole = model(images, soft_mask)
    torch.testing.assert_close(chunked, whole)


def test_the_last_block_computes_only_the_row_of_the_class_token(draw, pictures):
    model, images = draw(RELEASED), pictures(RELEASED, 1)
    rows: list[int] = []
    for block in model.blocks:
        block.feed_forward.register_forward_hook(lambda *call: rows.append(call[1][0].shape[1]))
    model(images)
    assert rows == [17, 17, 1]
    with FlopCounterMode(display=False) as pruned:
        model(images)
    with FlopCounterMode(display=False) as whole:
        list(model.observe(images, WANTED - {"lens", "rollout"}))
    width, hidden, idle = RELEASED.width, RELEASED.hidden, RELEASED.tokens - 1
    saved = idle * (width**2 + 3 * width * hidden + 2 * RELEASED.tokens * width)
    assert whole.get_total_flops() - pruned.get_total_flops() == 2 * saved


def test_an_observed_model_gives_equal_logits_in_any_batch(draw, pictures):
    model, images = draw(RELEASED), pictures(RELEASED, 5)
    whole = model(images)
    for size in (1, 2, 3):
        parts = torch.cat([model(part) for part in images.split(size)])
        assert largest_difference(parts, whole) < 1e-5


@pytest.mark.parametrize(("step", "path"), [("soft-mask", "explicit"), ("vit", "fused")])
def test_the_path_on_a_cpu_is_the_faster_one(step, path, monkeypatch):
    assert Model(TINY_ROAD[step]).resolve_path(torch.device("cpu")) == path
    monkeypatch.setattr("illama.model.fused_agrees", lambda *_: True)  # a GPU is not at hand
    assert Model(TINY_ROAD[step]).resolve_path(torch.device("cuda")) == "fused"
    assert Model(TINY_ROAD[step], path="fused").resolve_path(torch.device("cpu")) == "fused"


@pytest.mark.parametrize("path", PATHS)
def test_bfloat16_weights_agree_within_their_precision(draw, pictures, path):
    model, images = draw(RELEASED, path), pictures(RELEASED)
    expected = model(images)
    seen = model.bfloat16()(images.bfloat16())
    assert seen.dtype == torch.bfloat16
    assert largest_difference(seen, expected) < 5e-2


# State


def test_a_state_dict_goes_there_and_back_unchanged(draw, pictures):
    model, images = draw(RELEASED), pictures(RELEASED)
    other = Model(RELEASED).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), model(images))
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_buffers_are_made_not_saved(draw):
    saved = set(draw(RELEASED).state_dict())
    assert saved == {name for name, _ in Model(RELEASED).named_parameters()}


def test_a_copied_model_computes_the_same(draw, pictures):
    model, images = draw(RELEASED), pictures(RELEASED)
    expected = model(images)
    assert torch.equal(copy.deepcopy(model)(images), expected)
    assert torch.equal(model.train()(images), expected)


def test_fresh_weights_are_drawn_as_in_the_released_code():
    torch.manual_seed(0)
    for name, tensor in Model(Config(depth=2)).state_dict().items():
        if name.endswith("norm.weight"):
            assert torch.equal(tensor, torch.ones_like(tensor))
        elif "patch_embedding" not in name:
            spread = 0.0 if name.endswith("bias") else 0.02
            assert abs(float(tensor.std()) - spread) < 2e-3, name
