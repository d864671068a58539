"""Checkpoints are written so that they read again, here and in the released code."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

import illama
from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.save import save_checkpoint
from illama.config import STEPS, Config
from illama.files import CheckpointError

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("step", STEPS)
def test_saving_and_loading_changes_nothing(fresh, same_weights, tmp_path, step, suffix):
    model = fresh(Config.at(step, "nano", width=24, heads=2, depth=2))
    path = tmp_path / f"file{suffix}"
    save_checkpoint(model, path, epoch=7, args={"lr": 0.1, "betas": (0.9, 0.999)})
    seen = read_checkpoint(path)
    assert seen.model.config == model.config
    assert same_weights(seen.model, model)
    assert (seen.epoch, seen.args) == (7, {"lr": 0.1, "betas": [0.9, 0.999]})
    assert (seen.layout, seen.notes) == (f"illama {suffix}", ())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(seen.model(images), model(images))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_class_names_are_stored_and_read_again(fresh, tmp_path, suffix):
    names = tuple(f"class {i}, \u00e9" for i in range(SMALL.classes))
    path = tmp_path / f"file{suffix}"
    save_checkpoint(fresh(SMALL), path, class_names=names)
    seen = read_checkpoint(path)
    assert (seen.class_names, seen.args) == (names, {})
    assert seen.to_dict()["class_names"] == list(names)
    save_checkpoint(fresh(SMALL), path)
    assert read_checkpoint(path).class_names is None


@pytest.mark.parametrize("names", [["a"], ["a"] * SMALL.classes])
def test_class_names_that_do_not_fit_the_head_are_refused(fresh, tmp_path, names):
    path = tmp_path / "a.pth"
    with pytest.raises(CheckpointError, match="class names, 1 of them different"):
        save_checkpoint(fresh(SMALL), path, class_names=names)
    assert not path.exists()
    for stored, message in ((json.dumps(names), "class names, 1 of them"), ("7", "not a list of")):
        save_checkpoint(fresh(SMALL), path, args={"illama_class_names": stored})
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(path)


def test_equal_models_make_equal_files(fresh, tmp_path):
    for suffix in (".pth", ".safetensors"):
        for name in ("one", "two"):
            save_checkpoint(fresh(SMALL), tmp_path / f"{name}{suffix}", args={"b": 1, "a": 2})
        one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_a_saved_pth_is_what_the_released_code_reads(fresh, official, tmp_path):
    model = fresh(SMALL)
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1}]}
    save_checkpoint(
        model, tmp_path / "a.pth", epoch=5, args={"lr": 0.1}, extra={"optimizer": optimizer}
    )
    with torch.serialization.safe_globals([argparse.Namespace]):
        entries = torch.load(tmp_path / "a.pth", weights_only=True)
    assert set(entries) == {"model", "args", "epoch", "optimizer"}
    assert list(entries["model"]) == list(official(model))
    assert entries["args"].lr == 0.1
    assert illama.load(tmp_path / "a.pth").config == SMALL


@pytest.mark.parametrize("name", ["a.bin", "a", "a.safetensors"])
def test_a_suffix_that_cannot_hold_it_is_refused(fresh, tmp_path, name):
    with pytest.raises(CheckpointError, match="suffix"):
        save_checkpoint(fresh(SMALL), tmp_path / name, extra={"optimizer": {}})
    assert not list(tmp_path.iterdir())
