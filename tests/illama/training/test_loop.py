from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from illama.checkpoint.load import read_checkpoint
from illama.distributed import World, choose_device
from illama.exits import UsageError
from illama.sources.demo import draw
from illama.sources.source import SourceError, hash_order
from illama.training.classification import Classification
from illama.training.loader import open_splits
from illama.training.loop import Execution, fit
from illama.training.recipe import RECIPES, RecipeError, find_recipe
from illama.training.task import TrainingError
from illama.training.trainer import Trainer
from illama.transforms import ImageError

SMALL = find_recipe("demo").override(
    [
        *("size=micro", "image_size=8", "epochs=3", "batch_size=20", "cutoff_soft=1"),
        *("dtype=fp32", "lr=2e-3"),
    ]
)
"""The demo's recipe for a micro model on pictures of five tokens: the same code in no time."""


def breaking(images, *positions):
    """Return a reader of images some of which are broken."""

    def read(position):
        if position in positions:
            raise ImageError("half a picture")
        return images[position]

    return read


@pytest.fixture(scope="module")
def trained(small_source, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    said = StringIO()
    result = fit(SMALL, small_source(), small_source("test", 30), out, console=Console(file=said))
    return SimpleNamespace(out=out, said=said.getvalue(), **vars(result))


def test_the_log_has_the_names_of_the_released_logs(trained):
    lines = [json.loads(line) for line in (trained.out / "log.jsonl").read_text().splitlines()]
    assert lines == list(trained.log)
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [line["train_soft_mask_rate"] for line in lines] == [1, 0, 0]
    released = {"train_lr", "train_loss", "test_loss", "test_acc1", "test_acc5", "n_parameters"}
    assert released < set(lines[0])
    assert lines[0]["n_parameters"] == sum(p.numel() for p in trained.model.parameters())
    assert lines[0]["test_soft_mask_rate"] == 1
    assert lines[0]["test_loss"] != lines[0]["test_loss_at_0"]
    assert lines[2]["test_acc1"] == lines[2]["test_acc1_at_0"]
    assert trained.said.count("\n") == 3


def test_what_was_trained_is_what_is_loaded(trained):
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = trained.model(images)
    for suffix in (".safetensors", ".pth"):
        read = read_checkpoint(trained.out / f"small{suffix}")
        assert torch.equal(read.model(images), wanted)
        assert (read.soft_mask, read.epoch, read.args["lr"]) == (0, 2, 2e-3)
    assert trained.checkpoint == trained.out / "small.safetensors"
    assert json.loads((trained.out / "recipe.json").read_text()) == SMALL.to_dict()


def test_equal_recipes_give_equal_weights_and_logs(small_source, trained, tmp_path):
    torch.manual_seed(123)
    again = fit(SMALL, small_source(), small_source("test", 30), tmp_path / "small")
    assert again.checkpoint.read_bytes() == trained.checkpoint.read_bytes()
    assert again.log == trained.log


def test_a_training_that_ends_soft_is_saved_to_run_soft(small_source, tmp_path):
    recipe = replace(SMALL, epochs=1, cutoff_soft=1, soft_mask=0.25, keep_soft_mask=True)
    result = fit(recipe, small_source(), small_source("test", 10), tmp_path / "soft")
    assert read_checkpoint(result.checkpoint).soft_mask == 0.25


def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(small_source, tmp_path):
    test = small_source("test", 30)
    with pytest.raises(TrainingError, match="12 training images do not fill a batch of 20"):
        fit(SMALL, small_source(images=12), test, tmp_path / "out")
    with pytest.raises(TrainingError, match="small has no labels"):
        fit(SMALL, small_source(labels=None), test, tmp_path / "out")
    with pytest.raises(SourceError, match="outside the head of 10 classes"):
        fit(SMALL, small_source(labels=np.full(50, 12)), test, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_trained_weights_are_not_overwritten(small_source, trained):
    before = trained.checkpoint.read_bytes()
    with pytest.raises(TrainingError, match="training is done; choose another --out"):
        fit(SMALL, small_source(), small_source("test", 30), trained.out)
    assert trained.checkpoint.read_bytes() == before


def test_a_recipe_that_would_end_soft_is_refused_unless_that_is_asked_for(small_source, tmp_path):
    with pytest.raises(
        RecipeError, match=r"the soft mask is 0.5 in the last step.*keep_soft_mask=true"
    ):
        fit(
            replace(SMALL, cutoff_soft=3, soft_mask=0.5),
            small_source(),
            small_source("test", 10),
            tmp_path / "out",
        )
    with pytest.raises(RecipeError, match=r"additive, which has no soft form; set soft_mask=0"):
        fit(replace(SMALL, step="rope-only"), small_source(), small_source("test"), tmp_path / "o")


def test_a_training_with_everything_on_learns_and_keeps_the_average(small_source, tmp_path):
    settings = ["mixup=0.2", "cutmix=0.5", "drop_path=0.2", "clip_grad=1", "ema=0.9", "flip=0.5"]
    settings += ["erasing=0.25", "rand_augment=rand-m9-mstd0.5-inc1", "crop=resized", "repeats=2"]
    settings += ["micro_batch=7", "recompute=true", "weight_decay_end=0.1", "dtype=bf16"]
    recipe = SMALL.override(settings)
    result = fit(recipe, small_source(), small_source("test", 30), tmp_path / "all")
    assert "train_class_acc" not in result.log[0]
    assert result.log[0]["train_loss"] < 2.6
    assert all("test_acc1_ema" in epoch for epoch in result.log)
    averaged = read_checkpoint(tmp_path / "all" / "all.pth", ema=True).model
    assert not torch.equal(averaged.head.weight, result.model.head.weight)


def test_broken_images_are_passed_over_counted_and_named(small_source, tmp_path):
    train, test = draw("train", 50).images, draw("test", 30).images
    sources = (
        small_source(read=breaking(train, 3, 4)),
        small_source("test", 30, read=breaking(test, 0)),
    )
    with pytest.raises(SourceError, match=r"2 images are broken, the last .*half a picture"):
        fit(SMALL, *sources, tmp_path / "strict")
    result = fit(SMALL, *sources, tmp_path / "lenient", execution=Execution(max_bad=3))
    assert result.log[-1]["broken_images"] == 3
    lines = (tmp_path / "lenient" / "broken.txt").read_text().splitlines()
    assert sorted(lines) == [
        "test: test/0: half a picture",
        "train: train/3: half a picture",
        "train: train/4: half a picture",
    ]


def test_a_loss_that_is_not_finite_stops_saves_and_names_the_images(small_source, tmp_path):
    recipe = replace(SMALL, lr=1e30, epochs=3, warmup_epochs=0)
    with pytest.raises(TrainingError) as stopped:
        fit(recipe, small_source(), small_source("test", 30), tmp_path / "nan")
    words = str(stopped.value)
    assert "loss nan in step" in words
    assert "lower lr; everything before it is saved; its images: train/" in words
    assert "\n" not in words
    assert read_checkpoint(tmp_path / "nan" / "checkpoint-1.pth")


def test_a_missing_tensorboard_is_named(small_source, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    how = Execution(tensorboard=True)
    with pytest.raises(TrainingError, match="TensorBoard is not installed; pip install"):
        fit(SMALL, small_source(), small_source("test", 30), tmp_path / "out", execution=how)


def test_a_model_is_not_cut_over_one_process_nor_with_an_average(small_source, tmp_path):
    how = Execution(sharded=True)
    with pytest.raises(TrainingError, match="start them with torchrun"):
        fit(SMALL, small_source(), small_source("test", 30), tmp_path / "out", execution=how)
    with pytest.raises(RecipeError, match="set ema=none and dtype=bf16 or fp32"):
        Trainer(replace(SMALL, ema=0.9), 50, World(0, 2), sharded=True)
    uneven = replace(SMALL, batch_size=10, micro_batch=2)  # 5 passes, which two cannot share
    with pytest.raises(RecipeError, match="a batch has 5; set batch_size and micro_batch"):
        Trainer(uneven, 50, World(0, 2), sharded=True)


@pytest.mark.parametrize("step", ["vit", "class-first-causal", "modified-mask", "rope-only"])
def test_every_masking_trains(small_source, step, tmp_path):
    recipe = replace(SMALL, step=step, soft_mask=0, cutoff_soft=0, epochs=1)
    result = fit(recipe, small_source(), small_source("test", 20), tmp_path / step)
    assert read_checkpoint(result.checkpoint).model.config.masking != "multiplicative"


def test_a_missing_device_is_refused():
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UsageError, match="--device abacus: not a device"):
        choose_device("abacus")


def test_a_source_without_splits_cannot_test_what_it_trained(tmp_path):
    drawn = draw("test", 10)
    np.savez(tmp_path / "images.npz", images=drawn.images, labels=drawn.labels)
    with pytest.raises(SourceError, match="has no images for testing; give a source with train"):
        open_splits(replace(SMALL, data=str(tmp_path / "images.npz")))
    with pytest.raises(SourceError, match="has no default data; pass --data"):
        open_splits(replace(SMALL, data=None))


def test_training_and_test_images_are_limited_to_those_of_smallest_hash(small_source, monkeypatch):
    whole = {"train": small_source("train", 30), "test": small_source("test", 20)}
    monkeypatch.setattr("illama.training.loader.open_source", lambda _, split: whole[split])
    some = open_splits(SMALL, 12, 10)
    assert [len(split) for split in some] == [12, 10]
    for all_of, kept in zip(whole.values(), some, strict=True):
        smallest = hash_order(all_of.ids, 0) < len(kept)
        assert kept.ids == tuple(np.array(all_of.ids)[smallest])
    assert [len(split) for split in open_splits(SMALL, test_images=10)] == [30, 10]


@pytest.mark.parametrize(
    ("train", "test", "classes", "said"),
    [
        ({"classes": list("abc")}, {"classes": list("acd")}, 3, "1 of its 3 classes are not .*'d'"),
        ({"labels": np.zeros(50, np.int64)}, {"labels": np.zeros(9, np.int64)}, 1, "one class"),
        ({}, {}, 51, "50 training images for 51 classes"),
    ],
    ids=["names", "one class", "few images"],
)
def test_classes_that_cannot_be_learned_or_compared_are_refused(
    small_source, tmp_path, train, test, classes, said
):
    labels = {"labels": np.arange(50) % 3} if "classes" in train else {}
    first = small_source(**{**labels, **train})
    second = small_source("test", 9, **{**{key: each[:9] for key, each in labels.items()}, **test})
    with pytest.raises(SourceError, match=said):
        fit(replace(SMALL, classes=classes), first, second, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_test_image_loses_no_step_and_the_epoch_is_tested_later(small_source, tmp_path):
    pictures = draw("test", 30).images
    sources = small_source(), small_source("test", 30, read=breaking(pictures, 0))
    with pytest.raises(SourceError, match="1 images are broken"):
        fit(SMALL, *sources, tmp_path / "out")
    (saved,) = (tmp_path / "out").glob("checkpoint-*.pth")
    result = fit(SMALL, *sources, tmp_path / "out", execution=Execution(max_bad=1))
    assert saved.name == f"checkpoint-{50 // SMALL.batch_size}.pth"
    whole = fit(SMALL, *sources, tmp_path / "whole", execution=Execution(max_bad=1))
    assert result.log == whole.log


def test_a_signal_while_testing_ends_with_143_and_the_epoch_is_tested_later(
    small_source, tmp_path, monkeypatch
):
    sources = small_source(), small_source("test", 30)
    with monkeypatch.context() as patch:
        evaluate = Classification.evaluate

        def interrupted(self, *given):
            os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(self, *given)

        patch.setattr(Classification, "evaluate", interrupted)
        with pytest.raises(SystemExit) as stopped:
            fit(SMALL, *sources, tmp_path / "out")
    assert stopped.value.code == 143
    assert (tmp_path / "out" / "log.jsonl").read_text() == ""
    result = fit(SMALL, *sources, tmp_path / "out")
    assert result.log == fit(SMALL, *sources, tmp_path / "whole").log


@pytest.fixture
def folders(tmp_path):
    """Write a folder of train and test images, 8 x 8, in three classes."""
    for split, images in (("train", 12), ("test", 6)):
        drawn = draw(split, images)
        for number, image in enumerate(drawn.images[:, ::4, ::4]):
            folder = tmp_path / "images" / split / f"class{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "images"


def test_the_command_trains_and_prints_where_the_weights_are(illama, folders, tmp_path):
    out = tmp_path / "first"
    fields = ("image_size=8", "classes=3", "epochs=1", "cutoff_soft=0", "batch_size=5")
    sets = [word for field in fields for word in ("--set", field)]
    code, printed, said = illama("train", "demo", "--data", folders, "--out", out, *sets)
    assert (code, printed) == (0, f"{out / 'first.safetensors'}\n")
    assert "epoch 1/1: loss " in said
    assert read_checkpoint(out / "first.pth").args["data"] == str(folders)
    assert json.loads((out / "recipe.json").read_text())["batch_size"] == 5
    assert (out / "curves.png").stat().st_size > 1000
    code, _, said = illama("train", "demo", "--data", folders, "--out", out, *sets)
    assert (code, said.count("\n")) == (3, 1)
    assert "training is done" in said


def test_the_recipes_are_listed_one_a_line(illama):
    code, printed, _ = illama("train", "--list")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == list(RECIPES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--list"),
        (["demi"], "no recipe 'demi'"),
        (["demo", "--set", "rate=1"], "no field 'rate'"),
        (["demo", "--set", "lr=fast"], "lr='fast' is not a number"),
    ],
)
def test_an_unusable_command_line_ends_with_2_and_one_line(illama, tmp_path, words, said):
    code, printed, error = illama("train", *words, "--out", tmp_path / "out")
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert said in error


def test_missing_images_end_with_3(illama, tmp_path):
    code, _, error = illama("train", "demo", "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert (code, error.count("\n")) == (3, 1)
    assert "does not exist" in error
