from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from illama.sources import open_source
from illama.sources.head import for_head
from illama_eval import Run
from illama_eval.results import ResultError
from illama_eval.run.directory import finished_run
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint


def test_another_checkpoint_in_the_same_directory_is_refused_and_the_field_named(
    measure: Callable[..., Run], golden_checkpoint: Path, whole: Path
) -> None:
    soft = open_checkpoint(golden_checkpoint, device=torch.device("cpu"), soft_mask=0.5)
    before = (whole / "run.json").read_bytes()
    with pytest.raises(ResultError, match=r"another subjects\.0\.soft_mask"):
        measure(whole, soft)
    assert (whole / "run.json").read_bytes() == before


def test_other_images_in_the_same_directory_are_refused(
    subject: ModelSubject, small_images: Path, whole: Path
) -> None:
    source = for_head(open_source(str(small_images)).limit(9, 0), 10)
    studies = [
        study() for study in STUDIES.values() if study.requires <= {"labels", "single_labels"}
    ]
    with pytest.raises(ResultError, match="holds noise, 61 images; you ask for noise, 9"):
        evaluate(subject, source, studies, whole)


def test_images_of_one_name_and_number_are_told_apart_by_their_fingerprints(tmp_path: Path) -> None:
    header = {
        "identity": {"source": {"fingerprint": "a" * 64}},
        "source": {"name": "x", "images": 2},
    }
    (tmp_path / "run.json").write_text(Run(header=header, rows=()).to_json(), encoding="utf-8")
    with pytest.raises(ResultError) as refused:
        finished_run(tmp_path, {"source": {"fingerprint": "b" * 64}}, "x, 2 images")
    assert "holds x, 2 images (aaaaaaaa); you ask for x, 2 images (bbbbbbbb)" in str(refused.value)


def test_overwrite_replaces_another_run(
    subject: ModelSubject, small_images: Path, tmp_path: Path
) -> None:
    source = for_head(open_source(str(small_images)), 10)
    studies = [STUDIES["accuracy"]()]
    evaluate(subject, source.limit(5, 0), studies, tmp_path)
    run = evaluate(subject, source.limit(6, 0), studies, tmp_path, Options(overwrite=True))
    assert Run.load(tmp_path).header["images_seen"] == run.header["images_seen"] == 6


def test_a_directory_in_use_is_refused_naming_the_process(
    subject: ModelSubject, small_images: Path, tmp_path: Path
) -> None:
    source = for_head(open_source(str(small_images)).limit(9, 0), 10)
    seen: list[str] = []

    def measure(**options: Callable[[int, int], object]) -> None:
        evaluate(subject, source, [STUDIES["accuracy"]()], tmp_path, Options(**options))

    def second(total: int, done: int) -> None:
        with pytest.raises(ResultError) as refused:
            measure()
        seen.append(str(refused.value))

    measure(on_start=second)
    assert f"in use by process {os.getpid()}" in seen[0]


def test_a_damaged_partial_is_refused(measure: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "partial-1of1.pt").write_bytes(b"not a partial")
    with pytest.raises(ResultError, match="--overwrite"):
        measure(tmp_path)


def test_a_partial_of_another_number_of_processes_is_refused(
    measure: Callable[..., Run], tmp_path: Path
) -> None:
    (tmp_path / "partial-2of3.pt").write_bytes(b"")
    with pytest.raises(ResultError, match="half-done run of 3 processes"):
        measure(tmp_path)
