from __future__ import annotations

import pytest
import torch

import illama
from illama.config import Config
from illama.files import CheckpointError
from illama.model import Model

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)


def test_missing_unexpected_and_misshapen_weights_are_all_listed(spoiled):
    path = spoiled(
        norm__weight=None,
        blocks__1__mlp__fc3__weight=None,
        dist_token=torch.zeros(1),
        head__bias=torch.zeros(10),
    )
    with pytest.raises(CheckpointError) as caught:
        illama.load(path)
    assert str(caught.value) == (
        f"{path}: weights do not fit: missing 2 (blocks.1.mlp.fc3.weight, norm.weight), "
        "unexpected 1 (dist_token), misshapen 1 (head.bias [10] for [3])"
    )


def test_long_lists_are_cut_after_ten_names(spoiled, tmp_path):
    path = spoiled(**{f"extra{number}": torch.zeros(1) for number in range(14)})
    with pytest.raises(CheckpointError, match=r"unexpected 14 \(extra0, .*extra9 and 4 more\)"):
        illama.load(path)


def test_the_published_size_that_the_shapes_fit_is_named(official, tmp_path):
    state = official(Model(Config.at("soft-mask", "nano")))
    del state["norm.weight"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="width and depth are those of 'nano'"):
        illama.load(tmp_path / "a.pth")
