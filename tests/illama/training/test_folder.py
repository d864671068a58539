from __future__ import annotations

import argparse
import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from filelock import FileLock
from rich.console import Console

from illama.checkpoint.load import read_checkpoint
from illama.files import CheckpointError
from illama.training import classification, folder
from illama.training.loop import Execution, fit
from illama.training.task import TrainingError


def test_the_last_checkpoints_and_the_best_are_kept(train, tmp_path):
    result, _ = train(tmp_path / "small", keep=2)
    names = sorted(path.name for path in tmp_path.glob("small/checkpoint-*"))
    assert names == ["checkpoint-7.pth", "checkpoint-8.pth", "checkpoint-best.pth"]
    scores = [record["test_acc1_at_0"] for record in result.log]
    assert read_checkpoint(tmp_path / "small" / "checkpoint-best.pth").epoch == np.argmax(scores)


def test_checkpoints_keep_the_class_names_of_the_training_images(
    micro_recipe, small_source, tmp_path
):
    names = tuple(f"class {i}" for i in range(10))
    train, test = (replace(small_source(*of), classes=names) for of in ((), ("test", 20)))
    result = fit(micro_recipe.override(["epochs=3"]), train, test, tmp_path / "small")
    for path in (result.checkpoint, result.checkpoint.with_suffix(".pth")):
        assert read_checkpoint(path).class_names == names


def test_checkpoints_load_in_the_released_layout(whole):
    with torch.serialization.safe_globals([argparse.Namespace]):
        saved = torch.load(whole.checkpoint.parent / "checkpoint-8.pth", weights_only=True)
    assert {"model", "model_ema", "epoch", "args", "training"} == set(saved)
    assert {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} < set(saved["model"])
    assert json.loads(saved["args"].illama_config) == whole.model.config.to_dict()


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(
    micro_recipe, small_source, train, monkeypatch, tmp_path
):
    save = classification.save_checkpoint

    def full(model, path, **given):
        if path.name in ("checkpoint-5.pth", "small.pth"):
            raise CheckpointError(f"{path}: disk full while writing; nothing was changed")
        save(model, path, **given)

    monkeypatch.setattr(classification, "save_checkpoint", full)
    said = StringIO()
    with pytest.raises(CheckpointError, match="disk full while writing"):
        fit(
            micro_recipe,
            small_source(),
            small_source("test", 20),
            tmp_path / "small",
            execution=Execution(save_steps=1, keep=30),
            console=Console(file=said, width=500),
        )
    assert "not saved: " in said.getvalue()
    assert "disk full while writing; nothing was changed; the last good" in said.getvalue()
    assert "checkpoint-4.pth" in said.getvalue()
    monkeypatch.undo()
    assert train(tmp_path / "small")[0].checkpoint.exists()


def test_too_little_disk_is_refused_before_anything_is_trained(train, monkeypatch, tmp_path):
    usage = folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(TrainingError, match=r"0.0 GB free, but the training writes up to 0.\d GB"):
        train(tmp_path / "small")


def test_another_recipe_does_not_go_on_and_its_fields_are_named(
    micro_recipe, train, whole, tmp_path
):
    path = whole.checkpoint.parent / "checkpoint-2.pth"
    with pytest.raises(TrainingError) as refused:
        train(tmp_path / "out", replace(micro_recipe, lr=1e-3, flip=0.0), resume=str(path))
    assert "lr 0.002 there, 0.001 here, flip 0.5 there, 0.0 here" in str(refused.value)
    with pytest.raises(TrainingError, match="has only weights, no training to resume"):
        train(tmp_path / "out", resume=str(whole.checkpoint))
    with pytest.raises(CheckpointError, match="does not exist"):
        train(tmp_path / "out", resume=str(tmp_path / "none.pth"))


def test_resume_no_refuses_a_training_that_was_begun(interrupt, train, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        interrupt(patch, 1)
        with pytest.raises(SystemExit):
            train(tmp_path / "small")
    with pytest.raises(TrainingError, match="was begun here; resume it with --resume auto"):
        train(tmp_path / "small", resume="no")


def test_a_second_training_in_the_same_folder_is_refused(train, tmp_path):
    (tmp_path / "small").mkdir()
    with (
        FileLock(tmp_path / "small" / ".lock"),
        pytest.raises(TrainingError, match="is in use by another training process"),
    ):
        train(tmp_path / "small")


def test_every_kth_epoch_and_the_last_are_kept_for_good(train, whole, tmp_path):
    trained, _ = train(tmp_path / "kept", keep=1, save_steps=None, keep_every=3)
    kept = sorted((tmp_path / "kept").glob("epoch-*"))
    assert [path.name for path in kept] == ["epoch-0003.safetensors", "epoch-0004.safetensors"]
    read = [read_checkpoint(path) for path in kept]
    assert [each.epoch for each in read] == [2, 3]  # counted from 0
    assert read[1].sha256 == read_checkpoint(trained.checkpoint).sha256
    assert read[0].sha256 != read[1].sha256
    assert not list(whole.checkpoint.parent.glob("epoch-*"))
