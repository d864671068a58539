"""A planted activation is removed after every block; other images stay bit for bit."""

from __future__ import annotations

import pytest
import torch

from illama.config import Config
from illama.model import Model
from illama.transforms import evaluation_transform
from illama_eval.functional.token_states import remove_massive
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.without_massive import without_massive_activations

CHANNEL, PATCH = 3, 5


@pytest.fixture(name="subject")
def fixture_subject():
    torch.manual_seed(0)
    config = Config(image_size=16, patch_size=4, width=16, depth=3, heads=2, classes=3)
    model = Model(config).eval()
    return ModelSubject(name="tiny", model=model, transform=evaluation_transform(16))


def observe(subject, images):
    with torch.no_grad():
        *layers, output = subject.observe(images, {"tokens", "logits"})
        (plain,) = subject.observe(images, {"logits"})
    assert torch.allclose(plain.logits, output.logits, atol=1e-5)
    return torch.stack([layer.tokens for layer in layers]), output.logits


def test_a_planted_activation_becomes_the_median_of_its_channel(subject):
    subject.model.position_embedding.data[0, PATCH, CHANNEL] = 5000.0
    images = torch.randn(4, 3, 16, 16)
    before, answers = observe(subject, images)
    assert (before[:, :, PATCH, CHANNEL] > 1000).all()
    removed = without_massive_activations(subject, 1000, 100)
    after, others = observe(removed, images)
    assert after.abs().max() < 100
    kept = before[0, :, :16].clone()
    kept[:, PATCH, CHANNEL] = kept[:, :, CHANNEL].median(1).values
    assert torch.equal(after[0, :, :16], kept)
    assert torch.equal(after[0, :, 16], before[0, :, 16])
    assert not torch.equal(answers, others)
    assert removed.name == "tiny, massive activations removed"


def test_images_without_massive_activations_go_through_bit_for_bit(subject):
    images = torch.randn(4, 3, 16, 16)
    removed = without_massive_activations(subject, 1000, 100)
    for one, other in zip(observe(subject, images), observe(removed, images), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_what_exceeds_both_limits_is_removed(dtype):
    states = torch.ones(2, 5, 4, dtype=dtype)
    states[0, 1, 2], states[1, 0, 0] = 5000, 90
    found = remove_massive(states, 80, 100)
    assert found.dtype == dtype
    assert found[0].eq(1).all()
    assert torch.equal(found[1], states[1])
