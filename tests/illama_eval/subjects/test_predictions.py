from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from illama_eval.results import ResultError
from illama_eval.run.evaluate import evaluate
from illama_eval.studies import STUDIES
from illama_eval.subjects.predictions import open_predictions
from illama_eval.subjects.subject import SubjectError


def test_saved_predictions_are_measured_without_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "saved.npz"
    probabilities = np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]])
    np.savez(path, probabilities=probabilities, labels=np.array([0, 1, 1]))
    saved, source = open_predictions(path)
    run = evaluate(saved, source, [STUDIES["accuracy"](), STUDIES["calibration"](bins=2)])
    assert run.value("accuracy", "top1").value == pytest.approx(2 / 3)
    assert run.value("accuracy", "nonfinite").value == 0
    expected = -(np.log(0.75) + np.log(0.5)) / 3
    assert run.value("accuracy", "nll").value == pytest.approx(expected, rel=1e-6)


def test_saved_predictions_cannot_show_attention(tmp_path: Path) -> None:
    path = tmp_path / "saved.npz"
    np.savez(path, logits=np.zeros((3, 2)), labels=np.array([0, 1, 1]))
    saved, source = open_predictions(path)
    with pytest.raises(ResultError, match="saved: rank needs attention"):
        evaluate(saved, source, [STUDIES["rank"]()])
    with pytest.raises(SubjectError, match="hold no softmax"):
        next(saved.observe(torch.zeros(1, 2), {"softmax"}))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "float16", np.longdouble])
def test_saved_logits_of_every_type_are_read_alike(dtype: type | str, tmp_path: Path) -> None:
    path = tmp_path / "saved.npz"
    logits = np.arange(120.0).reshape(40, 3).astype(dtype)
    np.savez(path, logits=np.asfortranarray(logits), labels=np.zeros(40, ">i4"))
    saved, source = open_predictions(path)
    read = torch.stack([saved.prepare(source.read(i)) for i in range(len(source))])
    assert torch.equal(read.double(), torch.tensor(logits.astype(float)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": np.zeros((3, 2))}, "needs `labels`"),
        ({"labels": np.zeros(3)}, "`logits` or `probabilities`"),
        ({"probabilities": np.full((1, 2), 0.9), "labels": np.zeros(1, int)}, "sum to 1"),
        ({"probabilities": np.array([[-0.5, 1.5]]), "labels": np.zeros(1, int)}, "0..1"),
        ({"logits": np.zeros((3, 2)), "labels": np.zeros(4, int)}, "expected scores"),
        ({"logits": np.zeros((1, 2)), "labels": np.full(1, 5)}, "outside"),
        ({"logits": np.zeros((1, 2)), "labels": np.full(1, 0.5)}, "whole numbers"),
        ({"logits": np.full((1, 2), "x"), "labels": np.full(1, 0)}, "floating-point"),
        ({"logits": np.zeros((2, 2)), "labels": np.zeros(2, int), "ids": ["a"]}, r"'ids' strings"),
        ({"logits": np.zeros((1, 2)), "labels": np.zeros(1, int), "ids": [[1, 2]]}, r"\[1, 2\]"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "saved.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        open_predictions(path)
