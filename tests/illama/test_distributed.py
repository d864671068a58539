"""Several processes against one, and what happens where one of them fails or never comes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import illama.launch
from illama import distributed
from illama.checkpoint.load import load
from illama.distributed import World, join
from illama.exits import InputError
from illama.launch import TORCHRUN
from illama.sources.demo import draw

PROGRAM = """
import illama.cli, illama.config, illama.training.curves
illama.training.curves.draw_curves = lambda *_: None
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


@pytest.fixture(scope="module")
def train(folder, start_several):
    """Return a function that trains in some processes and returns the log's records."""

    def run(out, processes, *words, settings=SETTINGS, launch=start_several):
        given = ["illama", "train", "demo", "--device", "cpu", "--data", folder, "--out", out]
        given += [*words, *(word for setting in settings for word in ("--set", setting))]
        printed = launch(processes, PROGRAM, *given)[0].printed
        assert printed.splitlines() == [str(out / f"{out.name}.safetensors")]
        return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]

    return run


@pytest.fixture(scope="module")
def by_one(train, tmp_path_factory):
    """Train in one process; return the folder, and the log's records."""
    out = tmp_path_factory.mktemp("alone") / "by1"
    return out, train(out, 1)


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
def test_two_processes_do_what_one_does(by_one, train, start_several, launch, tmp_path):
    folder, one = by_one
    two = train(tmp_path / "by2", 2, launch=launch or start_several)
    assert len(one) == len(two) == 2  # of five steps each
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4)
    weights = [
        load(each / f"{each.name}.safetensors").state_dict() for each in (folder, tmp_path / "by2")
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


@pytest.fixture
def torchrun(monkeypatch):
    """Set all variables of torchrun, for the second of two processes at a free port."""
    illama.launch._note_leftovers.cache_clear()
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        given = (1, 2, 1, "127.0.0.1", chosen.getsockname()[1], "run")
    for name, value in zip(TORCHRUN, given, strict=True):
        monkeypatch.setenv(name, str(value))
    yield monkeypatch
    illama.launch._note_leftovers.cache_clear()


@pytest.mark.parametrize("lacking", TORCHRUN)
def test_variables_that_are_left_over_get_a_note_and_join_nothing(torchrun, capsys, lacking):
    torchrun.delenv(lacking)
    for _ in range(2):
        with join(torch.device("cpu")) as world:
            assert world == World()
    assert distributed.is_main_process()
    note = capsys.readouterr().err
    assert note.count("note: ") == 1
    assert f"without {lacking}, so not by torchrun: this runs as one process" in note


def test_processes_that_do_not_come_are_waited_for_and_then_named(torchrun):
    torchrun.setattr(distributed, "JOINING", timedelta(seconds=0.2))
    refused = pytest.raises(InputError, match=r"no 2 processes at 127.0.0.1:\d+ .*unset RANK")
    with refused, join(torch.device("cpu")):
        pass


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "cpu:gloo,cuda:nccl")])
def test_processes_add_by_what_their_device_needs_not_by_what_the_machine_has(
    torchrun, device, backend
):
    started = []
    store = SimpleNamespace(set=lambda *_: None, wait=lambda *_: None)
    torchrun.setattr(torch.cuda, "is_available", lambda: True)
    torchrun.setattr(torch.cuda, "set_device", lambda _: None)
    torchrun.setattr(distributed, "rendezvous", lambda *_, **__: iter([(store, 0, 2)]))
    torch_own = distributed.distributed
    torchrun.setattr(torch_own, "init_process_group", lambda name, **_: started.append(name))
    torchrun.setattr(torch_own, "destroy_process_group", lambda: None)
    with join(torch.device(device)) as world:
        assert (world.size, world.device.type) == (2, device)
    assert started == [backend]


WAITING = """
import signal, torch
from illama.distributed import join
def never(number, frame):
    raise SystemExit(9)
signal.signal(signal.SIGTERM, never)
pipe.send("waiting")
with join(torch.device("cpu")):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_others_ends_at_a_signal(start, torchrun, number):
    environment = {name: os.environ[name] for name in TORCHRUN}
    begun = start(WAITING, "wait", **{**environment, "RANK": 0})
    assert begun.pipe.recv() == "waiting"
    deadline = time.monotonic() + 60
    while begun.process.is_alive() and time.monotonic() < deadline:
        os.kill(begun.process.pid, number)
        begun.process.join(0.2)
    assert begun.process.exitcode in {-number, 9, 1}, begun.error  # 9, 1: before it waited


@pytest.mark.parametrize("broken", ["train", "test"])
def test_an_image_broken_in_one_process_ends_all_with_3_and_loses_no_step(
    folder, start_several, tmp_path, broken
):
    images = shutil.copytree(folder, tmp_path / "images")
    for path in sorted((images / broken).rglob("*.png"))[-1:]:
        path.write_bytes(b"no picture")
    out = tmp_path / "out"
    given = ["illama", "train", "demo", "--device", "cpu", "--data", images, "--out", out]
    given += [word for setting in SETTINGS for word in ("--set", setting)]
    begun = start_several(2, PROGRAM, *given, code=3)
    for each in begun:
        assert "1 images are broken" in each.error
        assert each.error.count("\n") <= 1 + each.error.count("epoch")
    assert len(list(out.glob("checkpoint-*.pth"))) >= 1


SEGMENT = """
import torch
from types import SimpleNamespace
import numpy as np
from illama.distributed import join
from illama.training.loader import Batch
from illama.training.segmentation import Segmentation
def network(images):
    return SimpleNamespace(logits=images)
with join(torch.device("cpu")) as world:
    labels = torch.arange(16).view(1, 4, 4) % 3
    images = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    own = [Batch(images, labels, np.zeros(1, np.int64), 0)] if world.rank < 2 else []
    print(Segmentation().evaluate({"": network, "_at_0": network}, own, world))
"""


def test_a_process_without_test_images_takes_part_in_the_sum(start_several):
    printed = {each.printed for each in start_several(3, SEGMENT, "segment")}
    assert len(printed) == 1
    assert "'test_miou': 100.0" in printed.pop()
