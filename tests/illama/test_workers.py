"""Loader workers that are killed: one line, everything saved, whenever it happens."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from illama.sources.demo import draw
from illama.workers import WorkerWatch, load_in_order, says_a_worker_ended

PROGRAM = """
import illama.cli, illama.config
illama.config.SIZES["micro"] = {"width": 8, "depth": 2, "heads": 2, "patch_size": 4}
illama.cli.main()
"""
SETTINGS = ("size=micro", "image_size=8", "classes=3", "batch_size=4", "epochs=1000")


@pytest.fixture
def handler():
    """Give SIGCHLD a handler like torch's, which raises, and restore what was there."""
    before = signal.getsignal(signal.SIGCHLD)

    def fail(number, frame):
        raise RuntimeError("DataLoader worker is killed")

    signal.signal(signal.SIGCHLD, fail)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("handler")
def test_a_death_raises_where_a_batch_is_waited_for_and_nowhere_else():
    watch = WorkerWatch()
    watch.install()
    watch.install()  # by a second loader
    signal.raise_signal(signal.SIGCHLD)  # in a step: nothing happens
    with pytest.raises(RuntimeError, match="is killed"), watch.waiting():
        pytest.fail("the next batch is not waited for")
    with pytest.raises(RuntimeError, match="is killed"), watch.waiting():
        signal.raise_signal(signal.SIGCHLD)
    with watch.waiting():
        pass


def test_a_broken_connection_is_a_worker_that_ended_and_its_own_errors_are_not():
    assert says_a_worker_ended(ConnectionResetError(104, "Connection reset by peer"))
    assert says_a_worker_ended(RuntimeError("DataLoader worker (pid 3) is killed by signal"))
    assert not says_a_worker_ended(OSError("Caught OSError in DataLoader worker process 0."))
    assert not says_a_worker_ended(RuntimeError("the sizes do not match"))


class Failing:
    """Reads numbers, but for the fourth."""

    def __getitem__(self, index):
        return 1 // (3 - index)


def test_an_error_while_reading_leaves_no_worker_behind():
    before = set(multiprocessing.active_children())
    with pytest.raises(ZeroDivisionError) as failed:
        list(load_in_order(Failing(), range(20), 2, pin=False))
    assert "Original Traceback" in str(failed.value)
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.slow
def test_a_killed_worker_ends_a_training_that_is_saved_with_code_3(start, tmp_path):
    for split, images in (("train", 12), ("test", 6)):
        for number, image in enumerate(draw(split, images).images[:, ::4, ::4]):
            path = tmp_path / "images" / split / f"class{number % 3}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(image)).save(path)
    out = tmp_path / "out"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    given = ("--data", tmp_path / "images", "--workers", 1, "--device", "cpu", "--out", out)
    begun = start(PROGRAM, "illama", "train", "demo", *given, *settings)
    while begun.process.is_alive() and not list(out.glob("checkpoint-*.pth")):
        time.sleep(0.01)
    os.kill(_child_of(begun.process), signal.SIGKILL)
    begun.process.join(60)
    assert begun.process.exitcode == 3, begun.error
    last = begun.error.strip().splitlines()[-1]
    assert last.startswith("illama: a loader worker ended or hung (")
    assert "use fewer --workers" in last
    steps = [int(path.stem.split("-")[1]) for path in out.glob("checkpoint-[0-9]*.pth")]
    records = (out / "log.jsonl").read_text().splitlines()
    assert max(steps) >= 3 * len(records) > 0  # an epoch has three steps


def _child_of(process):
    """Return the newest child of a process, of those that there are at some moment."""
    while process.is_alive():
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        found = [int(word) for task in tasks for word in (task / "children").read_text().split()]
        if found:
            return max(found)
    raise AssertionError("it ended by itself")
