"""Two processes against one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from illama.checkpoint.load import load
from illama.sources.demo import draw

PROGRAM = """
import illama.cli, illama.config
illama.config.SIZES["micro"] = {"width": 8, "depth": 2, "heads": 2, "patch_size": 4}
illama.cli.main()
"""
SETTINGS = (
    *("size=micro", "image_size=8", "epochs=2", "batch_size=16", "micro_batch=4", "cutoff_soft=1"),
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


@pytest.fixture
def train(folder, start_several):
    """Return a function that trains in some processes and returns the log's records."""

    def run(out, processes, *words, settings=SETTINGS, launch=start_several):
        given = ["illama", "train", "demo", "--device", "cpu", "--data", folder, "--out", out]
        given += [*words, *(word for setting in settings for word in ("--set", setting))]
        printed = launch(processes, PROGRAM, *given)[0].printed
        assert printed.splitlines() == [str(out / f"{out.name}.safetensors")]
        return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]

    return run


def by_torchrun(processes, program, *words):
    """Start a program by torchrun, as a user would."""
    script = words[words.index("--out") + 1].with_suffix(".py")
    script.write_text(f"import torch\ntorch.set_num_threads(1)\n{program}")
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *launch, script, *map(str, words[1:])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [SimpleNamespace(printed=done.stdout)]


@pytest.mark.parametrize("launch", [None, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_two_processes_do_what_one_does(train, start_several, launch, tmp_path):
    one = train(tmp_path / "by1", 1)
    two = train(tmp_path / "by2", 2, launch=launch or start_several)
    assert len(one) == len(two) == 2  # of five steps each
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4)
    weights = [
        load(tmp_path / name / f"{name}.safetensors").state_dict() for name in ("by1", "by2")
    ]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=2e-4)


@pytest.mark.slow
def test_a_model_cut_over_two_processes_does_what_a_whole_one_does_and_goes_on(train, tmp_path):
    settings = [*SETTINGS, "recompute=true"]
    whole = train(tmp_path / "whole", 1, settings=settings)
    cut = train(tmp_path / "cut", 2, "--shard", settings=settings)
    for alone, together in zip(whole, cut, strict=True):
        assert together == pytest.approx(alone, rel=1e-4)
    for name in ("cut.safetensors", "cut.pth", "checkpoint-10.pth"):
        (tmp_path / "cut" / name).unlink()
    again = train(tmp_path / "cut", 2, "--shard", settings=settings)
    assert again == cut
    path = tmp_path / "cut" / "checkpoint-5.pth"  # which two have saved in pieces
    alone = train(tmp_path / "alone", 1, "--resume", path, settings=settings)
    assert alone[-1] == pytest.approx(cut[-1], rel=1e-4)
