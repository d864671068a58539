from __future__ import annotations

import pytest

from illama.checkpoint.formats import to_official, translate
from illama.config import STEPS, Config
from illama.model import Model

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)


VIT = Config.at("vit", "nano", width=24, heads=2, depth=2)


def test_released_names_are_exactly_those_of_the_released_code(fresh, official):
    block = (
        "norm1.weight attn.qkv.weight attn.qkv.bias attn.proj.weight attn.proj.bias "
        "norm2.weight mlp.fc1.weight mlp.fc3.weight mlp.fc2.weight"
    )
    expected = ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"]
    expected += [f"blocks.{i}.{name}" for i in range(2) for name in block.split()]
    expected += ["norm.weight", "head.weight", "head.bias"]
    assert sorted(official(fresh(SMALL))) == sorted(expected)


def test_vit_names_are_exactly_those_of_timm(fresh, official):
    block = (
        "norm1.weight norm1.bias attn.qkv.weight attn.qkv.bias attn.proj.weight attn.proj.bias "
        "norm2.weight norm2.bias mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias"
    )
    expected = ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"]
    expected += [f"blocks.{i}.{name}" for i in range(2) for name in block.split()]
    expected += ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    assert sorted(official(fresh(VIT))) == sorted(expected)


@pytest.mark.parametrize("step", STEPS)
def test_every_name_goes_there_and_back(step):
    config = Config.at(step, "nano", depth=1)
    for name in Model(config).state_dict():
        assert translate(to_official(name, config.mlp), config.mlp) == name
        assert translate(name, config.mlp) == name
