"""Size and cost of a model against the paper's tables."""

from __future__ import annotations

import pytest

from illama.complexity import causal_macs, macs, parameters, parameters_as_published
from illama.config import SIZES, STEPS, Config
from illama.model import Model


@pytest.mark.parametrize(
    ("size", "pixels", "expected"),
    [
        ("tiny", 224, 5_701_096),
        ("tiny", 384, 5_774_056),
        ("small", 224, 22_018_024),
        ("small", 384, 22_163_944),
        ("base", 224, 86_502_376),
        ("base", 384, 86_794_216),
        ("large", 224, 310_445_032),
        ("large", 384, 310_834_152),
    ],
)
def test_parameters_are_those_of_the_training_logs(size, pixels, expected):
    assert parameters(Config.at("soft-mask", size, image_size=pixels)) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [("tiny", 5_717_416), ("small", 22_050_664), ("base", 86_567_656)]
)
def test_parameters_of_the_authors_vit_are_those_of_their_logs(size, expected):
    assert parameters(Config.at("vit", size)) == expected


@pytest.mark.parametrize(("size", "expected"), [("base", 93_769_426), ("large", 320_131_282)])
def test_parameters_with_the_head_of_imagenet_21k(size, expected):
    assert parameters(Config.at("soft-mask", size, classes=10_450)) == expected


@pytest.mark.parametrize("step", STEPS)
def test_counting_by_formula_is_counting_the_tensors(step):
    config = Config.at(step, "nano")
    assert parameters(config) == sum(tensor.numel() for tensor in Model(config).parameters())


@pytest.mark.parametrize(
    ("step", "size", "pixels", "millions"),
    [
        ("soft-mask", "tiny", 224, 5.7),
        ("soft-mask", "small", 224, 21.9),
        ("soft-mask", "base", 224, 86.3),
        ("soft-mask", "base", 384, 86.3),
        ("soft-mask", "large", 384, 310.2),
        ("vit", "base", 384, 86.4),
        ("vit", "large", 384, 304.1),
    ],
)
def test_parameters_as_the_paper_counts_them(step, size, pixels, millions):
    config = Config.at(step, size, image_size=pixels)
    assert round(parameters_as_published(config) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("step", "size", "pixels", "billions"),
    [
        ("soft-mask", "tiny", 224, 1.2537),
        ("soft-mask", "small", 224, 4.5989),
        ("soft-mask", "base", 224, 17.5638),
        ("soft-mask", "large", 224, 62.7941),
        ("soft-mask", "base", 384, 55.4844),
        ("soft-mask", "large", 384, 194.6965),
        ("vit", "tiny", 224, 1.2584),
    ],
)
def test_multiply_accumulates_are_those_of_the_paper(step, size, pixels, billions):
    assert round(macs(Config.at(step, size, image_size=pixels)) / 1e9, 4) == billions


def test_the_causal_formula_saves_what_the_paper_says_in_each_layer():
    config = Config.at("soft-mask", "tiny")
    saved = (macs(config) - causal_macs(config)) / config.depth
    attention = 4 * 197 * 192**2 + 2 * 197**2 * 192
    assert round(attention / 1e6, 3) == 43.951
    assert round((attention - saved) / 1e6, 3) == 40.226


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_saved_without_a_mask(size):
    config = Config.at("rmsnorm", size)
    assert causal_macs(config) == macs(config)
