from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from illama_eval.results import Run


def test_two_checkpoints_of_one_name_are_told_apart(
    command: Callable[..., tuple[int, str, str]],
    undrawn: None,
    golden_checkpoint: Path,
    small_images: Path,
    tmp_path: Path,
) -> None:
    other = tmp_path / "elsewhere" / golden_checkpoint.name
    other.parent.mkdir()
    other.write_bytes(golden_checkpoint.read_bytes())
    code, _, err = command(
        "accuracy", golden_checkpoint, other, "--data", small_images, "--limit", 8, "--out", "two"
    )
    assert code == 0, err
    assert len({row.subject for row in Run.load(tmp_path / "two").rows}) in {1, 2}


def test_a_checkpoint_alone_gets_a_first_look_at_the_photos(
    command: Callable[..., tuple[int, str, str]],
    undrawn: None,
    golden_checkpoint: Path,
    tmp_path: Path,
) -> None:
    code, _, err = command("rank", golden_checkpoint, "--out", "look", "--spectra", 4)
    assert code == 0
    assert "first look" in err
    assert "--data" in err
    assert Run.load(tmp_path / "look").header["images_seen"] == 30


def test_a_study_of_labels_without_data_says_what_data_takes(
    command: Callable[..., tuple[int, str, str]], golden_checkpoint: Path
) -> None:
    code, out, err = command("calibrate", golden_checkpoint)
    assert (code, out) == (3, "")
    assert "--data takes" in err
    assert len(err.splitlines()) == 1


def test_the_environment_names_the_data(
    command: Callable[..., tuple[int, str, str]],
    undrawn: None,
    golden_checkpoint: Path,
    small_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ILLAMA_DATA", str(small_images))
    code, _, err = command("accuracy", golden_checkpoint, "--out", "out", "--limit", 5)
    assert code == 0, err
    assert Run.load(tmp_path / "out").header["images_seen"] == 5


def test_a_head_that_does_not_fit_is_refused_before_any_forward(
    command: Callable[..., tuple[int, str, str]], golden_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "eleven.npz"
    np.savez(path, images=np.zeros((2, 64, 64, 3), np.uint8), labels=np.array([0, 10]))
    code, _, err = command("accuracy", golden_checkpoint, "--data", path)
    assert code == 3
    assert "10" in err
    assert not (tmp_path / "reports").exists()


def test_a_class_subset_masks_the_logits(
    command: Callable[..., tuple[int, str, str]],
    undrawn: None,
    golden_checkpoint: Path,
    small_images: Path,
    tmp_path: Path,
) -> None:
    with np.load(small_images) as stored:
        kept = stored["labels"] < 2
        np.savez(tmp_path / "two.npz", images=stored["images"][kept], labels=stored["labels"][kept])
    (tmp_path / "subset.txt").write_text("0\n1\n")
    code, _, err = command(
        *("accuracy", golden_checkpoint, "--data", "two.npz", "--out", "out"),
        *("--class-subset", "subset.txt"),
    )
    assert code == 0, err
    run = Run.load(tmp_path / "out")
    assert run.value("accuracy", "top5").value is None
    assert run.header["identity"]["source"]["class_subset"] == [0, 1]
