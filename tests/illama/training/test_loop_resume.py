from __future__ import annotations

import signal
import tarfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from illama.checkpoint.load import read_checkpoint
from illama.distributed import World
from illama.sources import open_source
from illama.sources.demo import draw
from illama.training import folder
from illama.training.augmentation import Augmentation
from illama.training.loader import ImageDataset, draw_batches, load_batches, open_splits
from illama.training.loop import Execution, fit
from illama.training.recipe import find_recipe
from illama.training.trainer import Trainer
from illama.transforms import evaluation_transform


@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_training_that_was_stopped_ends_with_the_same_bytes(
    interrupt, train, whole, monkeypatch, tmp_path, after
):
    out = tmp_path / "small"
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        with pytest.raises(SystemExit) as stopped:
            train(out, save_steps=None)
    assert stopped.value.code == 143
    assert not (out / "small.safetensors").exists()
    result, said = train(out)
    assert "resuming at step" in said
    assert result.log == whole.log
    for suffix in (".safetensors", ".pth"):
        ours, theirs = (
            read_checkpoint(each.checkpoint.with_suffix(suffix)) for each in (result, whole)
        )
        assert (ours.sha256, ours.args) == (theirs.sha256, theirs.args)
    logs = [(each.checkpoint.parent / "log.jsonl").read_bytes() for each in (result, whole)]
    assert logs[0] == logs[1]


def test_the_next_losses_after_resuming_are_bit_equal(micro_recipe, small_source, tmp_path):
    recipe = micro_recipe.override(["epochs=15", "cutoff_soft=10", "mask_schedule=linear"])
    losses = []
    for resumed in (False, True):
        trainer = Trainer(recipe, 50)
        book = folder.TrainingFolder(tmp_path, trainer, small_source(), 3, Console(quiet=True))
        first = book.restore(tmp_path / "checkpoint-7.pth") if resumed else 0
        vary = Augmentation(recipe, evaluation_transform(8))
        pictures = ImageDataset(small_source(), vary, recipe.seed, substitutes=True)
        drawn = draw_batches(50, recipe, first, 17, World())
        batches = load_batches(pictures, drawn, 0, torch.device("cpu"))
        for step in range(first, 17):
            if step == 7 and not resumed:
                book.save(step)
            own = [next(batches) for _ in range(trainer.passes)]
            losses.append(trainer.take_step(step, own).record["train_loss"])
    assert losses[7:17] == losses[17:]
    assert len(losses[17:]) == 10


def test_interrupting_from_the_keyboard_saves_too(interrupt, train, monkeypatch, tmp_path):
    interrupt(monkeypatch, 1, signal.SIGINT)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "small", save_steps=None)
    assert stopped.value.code == 130
    assert signal.getsignal(signal.SIGINT) is handler
    assert (tmp_path / "small" / "checkpoint-2.pth").exists()


def test_a_training_from_tar_shards_goes_on_within_an_epoch(
    interrupt, micro_recipe, small_source, monkeypatch, tmp_path
):
    shards = tmp_path / "shards"
    shards.mkdir()
    drawn = draw("train", 60)
    for shard in range(3):
        with tarfile.open(shards / f"{shard}.tar", "w") as archive:
            for number in range(20 * shard, 20 * shard + 20):
                add(archive, f"{number:03d}.png", encode(drawn.images[number, ::4, ::4]))
                add(archive, f"{number:03d}.cls", str(drawn.labels[number]).encode())
    source = open_source(str(shards))
    recipe = micro_recipe.override(["epochs=2", "shuffle_buffer=20"])
    how = Execution(workers=2, keep=20)
    given = (recipe, source, small_source("test", 20))
    whole = fit(*given, tmp_path / "whole", execution=how)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(SystemExit):
            fit(*given, tmp_path / "cut", execution=how)
    assert (tmp_path / "cut" / "checkpoint-4.pth").exists()
    again = fit(*given, tmp_path / "cut", execution=how)
    assert again.log == whole.log
    assert read_checkpoint(again.checkpoint).sha256 == read_checkpoint(whole.checkpoint).sha256


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, BytesIO(content))


def encode(image):
    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


# Processes that are killed

PROGRAM = """
import illama.cli, illama.config, illama.training.curves
illama.training.curves.draw_curves = lambda *_: None
illama.config.SIZES["micro"] = {"width": 8, "depth": 2, "heads": 2, "patch_size": 4}
illama.cli.main()
"""
COMMAND = ("illama", "train", "demo", "--save-steps", "1", "--device", "cpu")


def run_killed(start, words, out, kills, random):
    """Run a training until it ends by itself, however often it is killed before."""
    for kill in range(kills + 1):
        started = start(PROGRAM, *COMMAND, *words, "--out", out)
        if kill < kills:
            wait_for_steps(out, started.process, int(random.integers(1, 7)))
            started.process.kill()
        started.process.join(120)
        if kill == kills:
            assert started.process.exitcode == 0, started.error
        else:
            assert started.process.exitcode == -signal.SIGKILL


def wait_for_steps(out, process, steps):
    """Wait until a training has saved some steps more than it found, at a random moment."""
    newest = max((_step(path) for path in out.glob("checkpoint-*.pth")), default=0)
    while process.is_alive():
        if max((_step(path) for path in out.glob("checkpoint-*.pth")), default=0) > newest + steps:
            return
        time.sleep(0.002)


def _step(path):
    word = path.stem.removeprefix("checkpoint-")
    return int(word) if word.isdecimal() else 0


def write_images(root):
    for split, images in (("train", 12), ("test", 6)):
        for number, image in enumerate(draw(split, images).images[:, ::4, ::4]):
            path = Path(root) / split / f"class{number % 3}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    start, micro_settings, tmp_path, kills
):
    folder = write_images(tmp_path / "images")
    settings = [*micro_settings, "classes=3", "batch_size=4", f"epochs={3 * kills}"]
    recipe = find_recipe("demo").override([*settings, f"data={folder}"])
    expected = fit(recipe, *open_splits(recipe), tmp_path / "whole").checkpoint
    words = ["--data", folder, *(word for setting in settings for word in ("--set", setting))]
    run_killed(start, words, tmp_path / "killed", kills, np.random.default_rng())
    ours = read_checkpoint(tmp_path / "killed" / "killed.safetensors")
    assert ours.sha256 == read_checkpoint(expected).sha256
    assert not list((tmp_path / "killed").glob(".*.tmp"))
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]
