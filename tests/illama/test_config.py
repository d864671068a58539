"""The architecture as choices: the road's steps, the published sizes, and what is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, fields

import pytest

from illama.config import SIZES, STEPS, Config

TINY = {"width": 192, "depth": 12, "heads": 3}


def test_the_road_ends_at_the_released_model():
    assert Config.at("soft-mask", "tiny") == Config()


def test_the_road_starts_at_vit():
    vit = Config.at("vit", "tiny")
    choices = (vit.mlp, vit.norm, vit.masking, vit.class_token, vit.position)
    assert choices == ("gelu", "layer", "none", "first", "learned")


@pytest.mark.parametrize(
    ("step", "changed"),
    [
        ("swiglu", {"mlp": "swiglu"}),
        ("rmsnorm", {"norm": "rms"}),
        ("class-first-causal", {"masking": "additive"}),
        ("post-sequence-class", {"class_token": "last"}),
        ("modified-mask", {"masking": "modified"}),
        ("rope-only", {"position": "rotary"}),
        ("rope-and-learned", {"position": "both"}),
        ("soft-mask", {"masking": "multiplicative"}),
        ("class-first-multiplicative", {"masking": "multiplicative"}),
    ],
)
def test_each_step_changes_one_thing(step, changed):
    before = Config.at(STEPS[step].after, "tiny").to_dict()
    after = Config.at(step, "tiny").to_dict()
    assert {name: after[name] for name in after if after[name] != before[name]} == changed


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", SIZES)
def test_every_step_exists_at_every_size(step, size):
    config = Config.at(step, size)
    assert {name: getattr(config, name) for name in SIZES[size]} == dict(SIZES[size])
    assert config.head_width == (32 if size == "nano" else 64)


@pytest.mark.parametrize(
    ("size", "hidden"), [("tiny", 512), ("small", 1024), ("base", 2048), ("large", 2816)]
)
def test_swiglu_is_as_wide_as_in_the_released_code(size, hidden):
    assert Config.at("soft-mask", size).hidden == hidden
    assert Config.at("vit", size).hidden == 4 * SIZES[size]["width"]


def test_sizes_of_the_sequence_follow_from_the_image():
    config = Config()
    assert (config.grid, config.tokens, config.class_index) == (14, 197, 196)
    assert config.image_tokens == slice(0, 196)
    assert config.with_image_size(384).tokens == 577
    assert Config.at("vit", "tiny").class_index == 0
    assert Config.at("vit", "tiny").image_tokens == slice(1, 197)
    assert Config.at("soft-mask", "nano").tokens == 65


def test_a_config_survives_the_way_through_a_dictionary():
    for step in STEPS:
        config = Config.at(step, "nano")
        assert Config.from_dict(config.to_dict()) == config
    assert list(Config().to_dict()) == [field.name for field in fields(Config)]
    assert Config().to_dict() == asdict(Config())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masking": "some"}, "masking='some' is not one of none, additive"),
        ({"width": 0}, "width=0 must be a positive whole number"),
        ({"depth": 2.0}, "depth=2.0 must be"),
        ({"heads": True}, "heads=True must be"),
        ({"image_size": 225}, "225 is not a multiple of patch_size 16"),
        ({"heads": 5}, "width 192 does not divide into 5 heads"),
        ({"width": 195, "heads": 3}, "even head width, not 65"),
        ({"masking": "modified"}, "class_token='first'"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(changes, words):
    with pytest.raises(ValueError, match=words):
        Config.from_dict(changes)


@pytest.mark.parametrize(("step", "size"), [("vitt", "tiny"), ("vit", "huge")])
def test_an_unknown_step_or_size_lists_the_known_ones(step, size):
    with pytest.raises(ValueError, match=r"is not one of \w+, "):
        Config.at(step, size)


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Config().width = 1  # type: ignore[misc]
