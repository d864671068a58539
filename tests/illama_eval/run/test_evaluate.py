from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from illama.interruption import Interrupted
from illama.sources import open_source
from illama.sources.head import for_head
from illama_eval import Run
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint

WRITTEN = {"run.json", "timing.json", "replicates.npz", "per_image.npz", "samples.npz"}
"""What a finished run leaves behind; nothing temporary, no lock."""


PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from illama.sources import open_source
from illama.sources.head import for_head
from illama_eval.run.evaluate import Options, evaluate
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import open_checkpoint

checkpoint, images, out = map(Path, sys.argv[1:])
subject = open_checkpoint(checkpoint, device=torch.device("cpu"))
source = for_head(open_source(str(images)), 10)
say = pipe.send if "pipe" in globals() else lambda images: None
options = Options(batch_size=8, save_every=0, on_batch=say)
studies = [study() for study in STUDIES.values() if study.requires <= {"labels", "single_labels"}]
evaluate(subject, source, studies, out, options)
"""


def test_a_finished_run_leaves_its_files_and_nothing_else(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == WRITTEN
    run = Run.load(whole)
    assert run.header["images_seen"] == 61
    alone = set(STUDIES) - {"agreement", "feature_agreement", "shape_bias", "segmentation"}
    assert {row.study for row in run.rows} == alone
    assert all(row.images in {61, 1} or row.at or row.study in {"rank", "lens"} for row in run.rows)
    assert "/" not in json.dumps(run.header["subjects"][0]["file"])


def test_the_same_run_twice_gives_the_same_bytes(
    measure: Callable[..., Run], whole: Path, tmp_path: Path
) -> None:
    measure(tmp_path)
    for name in WRITTEN - {"timing.json"}:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name


def test_another_batch_size_changes_no_integer_and_floats_only_in_their_last_digits(
    subject: ModelSubject, small_images: Path, whole: Path
) -> None:
    source = for_head(open_source(str(small_images)), 10)
    studies = [STUDIES[name]() for name in ("accuracy", "rank")]
    run = evaluate(subject, source, studies, None, Options(batch_size=61))
    before = Run.load(whole)
    for row in run.rows:
        stored = before.value(row.study, row.metric, **row.at)
        assert row.value == pytest.approx(stored.value, rel=1e-5), row


def test_a_finished_run_is_shown_again_and_not_recomputed(
    measure: Callable[..., Run], whole: Path
) -> None:
    def never(images: int) -> None:
        raise AssertionError("measured again")

    before = (whole / "run.json").stat().st_mtime_ns
    run = measure(whole, on_batch=never)
    assert run == Run.load(whole)
    assert (whole / "run.json").stat().st_mtime_ns == before


def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(
    measure: Callable[..., Run], whole: Path, tmp_path: Path
) -> None:
    for stop_after in (1, 2):
        batches = iter(range(1000))

        def interrupt(images: int, batches=batches, stop_after=stop_after) -> None:
            if next(batches) == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Interrupted) as stopped:
            measure(tmp_path, on_batch=interrupt)
        assert stopped.value.exit_code == 143
        assert {path.name for path in tmp_path.iterdir()} == {"partial-1of1.pt"}
    covered: list[tuple[int, int]] = []
    measure(tmp_path, on_start=lambda total, done: covered.append((total, done)))
    assert covered == [(61, 40)]
    for name in WRITTEN - {"timing.json"}:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.fixture
def kill_and_resume(
    start: Callable[..., Any],
    measure: Callable[..., Run],
    golden_checkpoint: Path,
    small_images: Path,
    whole: Path,
) -> Callable[[int, Path], None]:
    """Return a function that kills a run after some batches, again and again, and ends it."""

    def run(kills: int, out: Path) -> None:
        random = np.random.default_rng(kills)
        for _ in range(kills):
            begun = start(PROGRAM, "run", golden_checkpoint, small_images, out)
            for _ in range(int(random.integers(1, 4))):
                begun.pipe.recv()
            begun.process.kill()
            begun.process.join()
            assert not (out / "run.json").exists()
        measure(out)
        assert (out / "run.json").read_bytes() == (whole / "run.json").read_bytes()

    return run


def test_a_killed_run_ends_in_the_same_bytes(
    kill_and_resume: Callable[[int, Path], None], tmp_path: Path
) -> None:
    kill_and_resume(1, tmp_path)


@pytest.mark.slow
def test_runs_killed_ten_times_end_in_the_same_bytes(
    kill_and_resume: Callable[[int, Path], None], tmp_path: Path
) -> None:
    for number in range(5):
        kill_and_resume(2, tmp_path / str(number))


def by_torchrun(processes: int, program: str, *words: object) -> None:
    """Start a program by torchrun, as a user would."""
    script = Path(f"{words[-1]}.py")
    script.write_text(program)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *launch, str(script), *map(str, words[1:])],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("processes", "launch"),
    [pytest.param(3, by_torchrun, marks=pytest.mark.slow), (2, None)],
    ids=["torchrun", "two"],
)
def test_several_processes_give_identical_integers(
    processes: int,
    launch: Callable[..., object] | None,
    start_several: Callable[..., object],
    golden_checkpoint: Path,
    small_images: Path,
    whole: Path,
    tmp_path: Path,
) -> None:
    words = ("run", golden_checkpoint, small_images, tmp_path / "out")
    (launch or start_several)(processes, PROGRAM, *words)
    run = Run.load(tmp_path / "out")
    alone = Run.load(whole)
    assert run.header["identity"] == alone.header["identity"]
    for row, single in zip(run.rows, alone.rows, strict=True):
        assert (row.metric, row.at, row.images) == (single.metric, single.at, single.images)
        assert (row.value is None) == (single.value is None)
        assert row.value is None or row.value == pytest.approx(single.value, rel=1e-5, abs=1e-9)
    with (
        np.load(tmp_path / "out" / "per_image.npz") as several,
        np.load(whole / "per_image.npz") as one,
    ):
        for name in ("prediction", "rank", "label", "seen"):
            np.testing.assert_array_equal(several[name], one[name])


def test_equal_names_of_two_subjects_are_told_apart_in_the_rows(
    golden_checkpoint: Path, small_images: Path
) -> None:
    subjects = [
        open_checkpoint(golden_checkpoint, device=torch.device("cpu"), name=name)
        for name in ("a", "b")
    ]
    source = for_head(open_source(str(small_images)).limit(8, 0), 10)
    run = evaluate(subjects, source, [STUDIES["accuracy"]()])
    first, second = (run.value("accuracy", "top1", name) for name in ("a", "b"))
    assert first.value == second.value
    assert run.to_frame()["subject"].tolist().count("a") == len(run.rows) / 2
