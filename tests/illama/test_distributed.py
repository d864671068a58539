"""Two processes against one, started by torchrun as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from illama.checkpoint.load import load
from illama.sources.demo import draw

PROGRAM = """
import sys, torch, illama.cli, illama.config
torch.set_num_threads(1)
illama.config.SIZES["micro"] = {"width": 8, "depth": 2, "heads": 2, "patch_size": 4}
illama.cli.main()
"""
SETTINGS = (
    *("size=micro", "image_size=8", "epochs=4", "batch_size=16", "micro_batch=4", "cutoff_soft=2"),
    *("mask_schedule=linear", "mixup=0.2", "cutmix=0.5", "drop_path=0.2", "clip_grad=1"),
    *("crop_padding=1", "flip=0.5", "dtype=fp32", "lr=4e-3"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write 83 training and 13 test images: neither divides by batches or processes."""
    root = tmp_path_factory.mktemp("images")
    for split, images in (("train", 83), ("test", 13)):
        drawn = draw(split, images)
        for number, image in enumerate(drawn.images[:, ::4, ::4]):
            path = root / split / f"class{number % 10}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def train(folder, out, processes, *words, settings=SETTINGS):
    """Train in `processes` processes and return the log's records."""
    script = out.parent / "train.py"
    script.write_text(PROGRAM)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launch if processes > 1 else ()), str(script)]
    command += [
        "train",
        "demo",
        "--device",
        "cpu",
        "--data",
        str(folder),
        "--out",
        str(out),
        *words,
    ]
    command += [word for setting in settings for word in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(out / f"{out.name}.safetensors")]
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_two_processes_do_what_one_does(folder, tmp_path):
    one, two = (train(folder, tmp_path / f"by{count}", count) for count in (1, 2))
    assert len(one) == len(two) == 4  # of five steps each
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4)
    weights = [
        load(tmp_path / name / f"{name}.safetensors").state_dict() for name in ("by1", "by2")
    ]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=2e-4)


@pytest.mark.slow
def test_a_model_cut_over_two_processes_does_what_a_whole_one_does_and_goes_on(folder, tmp_path):
    settings = [*SETTINGS, "recompute=true"]
    whole = train(folder, tmp_path / "whole", 1, settings=settings)
    cut = train(folder, tmp_path / "cut", 2, "--shard", settings=settings)
    for alone, together in zip(whole, cut, strict=True):
        assert together == pytest.approx(alone, rel=1e-4)
    for name in ("cut.safetensors", "cut.pth", "checkpoint-20.pth"):
        (tmp_path / "cut" / name).unlink()
    again = train(folder, tmp_path / "cut", 2, "--shard", settings=settings)
    assert again == cut
    alone = train_from(tmp_path, folder, settings)
    assert alone[-1] == pytest.approx(cut[-1], rel=1e-4)


def train_from(tmp_path, folder, settings):
    """Go on in one process from what two have saved in pieces."""
    path = str(tmp_path / "cut" / "checkpoint-15.pth")
    return train(folder, tmp_path / "alone", 1, "--resume", path, settings=settings)
