from __future__ import annotations

import argparse
import json
import os
import signal
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from filelock import FileLock
from rich.console import Console

from illama.config import SIZES
from illama.files import CheckpointError
from illama.sources.demo import draw
from illama.sources.source import hash_arrays, make_source
from illama.training import folder
from illama.training.loader import load_batches
from illama.training.loop import Execution, fit
from illama.training.recipe import find_recipe
from illama.training.task import TrainingError
from illama.training.trainer import Trainer

MICRO = {"width": 8, "depth": 2, "heads": 2, "patch_size": 4}
"""A size whose checkpoints are written in no time."""


SETTINGS = [
    "size=micro",
    "image_size=8",
    "epochs=4",
    "batch_size=20",
    "cutoff_soft=1",
    "lr=2e-3",
    "ema=0.9",
]


VARIED = ["drop_path=0.2", "mixup=0.2", "crop_padding=1", "flip=0.5", "micro_batch=8"]


SMALL = find_recipe("demo").override([*SETTINGS, *VARIED, "dtype=fp16"])


SAVED = Execution(save_steps=1, keep=30)


@pytest.fixture(scope="module", autouse=True)
def micro():
    """Let recipes name the size for as long as this file runs."""
    SIZES["micro"] = MICRO
    yield
    del SIZES["micro"]


def small_source(split="train", images=50):
    drawn = draw(split, images)
    return make_source(
        name="small",
        split=split,
        names=[f"{split}/{i}" for i in range(images)],
        labels=drawn.labels,
        contents=hash_arrays(drawn.images),
        read=drawn.images.__getitem__,
        in_memory=True,
    )


def train(out, recipe=SMALL, **execution):
    said = StringIO()
    sources = (small_source(), small_source("test", 20))
    how = replace(SAVED, **execution)
    result = fit(recipe, *sources, out, execution=how, console=Console(file=said, width=500))
    return result, said.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole") / "small")[0]


def interrupt(monkeypatch, after, number=signal.SIGTERM):
    """Let the process receive a signal inside an optimizer step."""
    take = Trainer.take_step

    def taken(self, step, batches, asked):
        if step == after:
            os.kill(os.getpid(), number)
        return take(self, step, batches, asked)

    monkeypatch.setattr(Trainer, "take_step", taken)


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    result, _ = train(tmp_path / "small", keep=2)
    names = sorted(path.name for path in tmp_path.glob("small/checkpoint-*"))
    assert names == ["checkpoint-7.pth", "checkpoint-8.pth", "checkpoint-best.pth"]
    scores = [record["test_acc1_at_0"] for record in result.log]
    assert load_batches.read(tmp_path / "small" / "checkpoint-best.pth").epoch == np.argmax(scores)


def test_checkpoints_load_in_the_released_layout(whole):
    with torch.serialization.safe_globals([argparse.Namespace]):
        saved = torch.load(whole.checkpoint.parent / "checkpoint-8.pth", weights_only=True)
    assert {"model", "model_ema", "epoch", "args", "training"} == set(saved)
    assert {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} < set(saved["model"])
    assert json.loads(saved["args"].illama_config) == whole.model.config.to_dict()


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(monkeypatch, tmp_path):
    save = load_batches.save

    def full(model, path, **given):
        if path.name in ("checkpoint-5.pth", "small.pth"):
            raise CheckpointError(f"{path}: disk full while writing; nothing was changed")
        save(model, path, **given)

    monkeypatch.setattr(load_batches, "save", full)
    said = StringIO()
    with pytest.raises(CheckpointError, match="disk full while writing"):
        fit(
            SMALL,
            small_source(),
            small_source("test", 20),
            tmp_path / "small",
            execution=SAVED,
            console=Console(file=said, width=500),
        )
    assert "not saved: " in said.getvalue()
    assert "disk full while writing; nothing was changed; the last good" in said.getvalue()
    assert "checkpoint-4.pth" in said.getvalue()
    monkeypatch.undo()
    assert train(tmp_path / "small")[0].checkpoint.exists()


def test_too_little_disk_is_refused_before_anything_is_trained(monkeypatch, tmp_path):
    usage = folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(TrainingError, match=r"0.0 GB free, the training writes up to 0.\d GB"):
        train(tmp_path / "small")


def test_another_recipe_does_not_go_on_and_its_fields_are_named(whole, tmp_path):
    path = whole.checkpoint.parent / "checkpoint-2.pth"
    with pytest.raises(TrainingError) as refused:
        train(tmp_path / "out", replace(SMALL, lr=1e-3, flip=0.0), resume=str(path))
    assert "lr 0.002 there, 0.001 here, flip 0.5 there, 0.0 here" in str(refused.value)
    with pytest.raises(TrainingError, match="holds no training to go on with, only weights"):
        train(tmp_path / "out", resume=str(whole.checkpoint))
    with pytest.raises(CheckpointError, match="does not exist"):
        train(tmp_path / "out", resume=str(tmp_path / "none.pth"))


def test_resume_no_refuses_a_training_that_was_begun(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        interrupt(patch, 1)
        with pytest.raises(SystemExit):
            train(tmp_path / "small")
    with pytest.raises(TrainingError, match="was begun here; --resume auto goes on"):
        train(tmp_path / "small", resume="no")


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    (tmp_path / "small").mkdir()
    with (
        FileLock(tmp_path / "small" / ".lock"),
        pytest.raises(TrainingError, match="is being trained in by another process"),
    ):
        train(tmp_path / "small")
