"""Attacks on verdicts and on the gate, from the command line: refused, or judged right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from illama_eval.render.models import load_models
from illama_eval.results import ResultError, Run

ECE_ALONE = """
[metrics.accuracy."*"]
severity = "ignore"
[metrics.calibration."*"]
severity = "ignore"
[metrics.calibration.ece]
absolute = 0.01
"""


@pytest.fixture(autouse=True)
def _quick(undrawn, monkeypatch):
    """Leave pages out."""
    monkeypatch.setattr(
        "illama_eval.commands.report.write_report", lambda runs, *_, **__: [runs[0] / "report.html"]
    )


@pytest.fixture
def measure(command):
    """Return a function that measures saved logits into a run directory."""

    def run(name, logits, labels, study="calibrate"):
        np.savez(f"{name}.npz", logits=logits, labels=labels)
        code, out, error = command(study, "--predictions", f"{name}.npz", "--out", name)
        assert code == 0, error
        return " ".join(out.split())

    return run


def draw(images, seed=0, signal=2.4):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, images)
    scores = random.normal(size=(images, 10))
    scores[np.arange(images), labels] += signal
    return scores, labels


def test_thirty_wrong_answers_are_not_called_calibrated(measure):
    labels = np.arange(30) % 3
    logits = np.zeros((30, 3))
    logits[np.arange(30), (labels + 1) % 3] = 0.8
    out = measure("wrong", logits, labels)
    ece = Run.load("wrong").value("calibration", "ece")
    assert ece.value == pytest.approx(np.exp(0.8) / (np.exp(0.8) + 2))
    assert "over-confident" in out
    assert "not distinguishable" not in out


def test_a_growing_calibration_error_fails_though_both_are_small(measure, command):
    scores, labels = draw(1000)
    for name, sharpness in (("before", 3.0), ("after", 3.9)):
        measure(name, sharpness * scores, labels)
    errors = [Run.load(name).value("calibration", "ece").value for name in ("before", "after")]
    assert errors == pytest.approx([0.045, 0.076], abs=1e-3)
    Path("gate.toml").write_text(ECE_ALONE, encoding="utf-8")
    code, out, _ = command("report", "after", "--baseline", "before", "--policy", "gate.toml")
    assert code == 1
    assert out.startswith("Regression in 1 of 1 gated metrics: ECE ")


def test_two_runs_of_five_images_are_too_few(measure, command):
    scores, labels = draw(5)
    measure("a", scores, labels)
    measure("b", -scores, labels)
    code, out, _ = command("report", "b", "--baseline", "a")
    assert code == 3
    assert "5 images are too few to judge; 30 are needed" in " ".join(out.split())


@pytest.mark.parametrize("name", ["replicates.npz", "per_image.npz"])
def test_files_of_another_model_of_the_same_name_are_refused(command, write_run, tmp_path, name):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", accuracy=0.6, seed=1)
    shutil.copy(f"a/{name}", f"b/{name}")
    for words in (("compare", "a", "b"), ("report", "b", "--baseline", "a")):
        code, _, error = command(*words)
        assert code == 3
        assert f"b/run.json: {name} beside it is not the one that was written with it" in error
        assert len(error.splitlines()) == 1
    with pytest.raises(ResultError, match="not the one that was written with it"):
        load_models([Path("b")])


@pytest.mark.parametrize(
    ("value", "said"), [(0.1, "its records give 0.4"), (1.7, "which no fraction can be")]
)
def test_a_hand_edited_accuracy_is_refused(command, write_run, tmp_path, value, said):
    write_run(tmp_path / "a")
    path = write_run(tmp_path / "b", accuracy=0.5) / "run.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["rows"][0] |= {"value": value, "low": value - 0.05, "high": value + 0.05}
    path.write_text(json.dumps(data), encoding="utf-8")
    for words in (("compare", "a", "b"), ("report", "b", "--baseline", "a")):
        code, out, error = command(*words)
        assert (code, out) == (3, "")
        assert said in error
        assert error.startswith("illama-eval: b/run.json: accuracy.top1 of nano is ")
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("loss", "code", "said"),
    [
        ("5", 3, "the metric is a fraction, and no loss is that large"),
        ('"5 nats"', 3, "the unit of the metric is fraction"),
        ('"50 pp"', 0, ""),
        ('"0.5 pp"', 1, ""),
    ],
)
def test_a_tolerated_loss_has_the_unit_of_its_metric(
    command, write_run, tmp_path, loss, code, said
):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", accuracy=0.6)
    rules = [f'[metrics.{study}."*"]\nseverity = "ignore"' for study in ("accuracy", "calibration")]
    rules.append(f"[metrics.accuracy.top1]\nabsolute = {loss}")
    Path("gate.toml").write_text("\n".join(rules), encoding="utf-8")
    found, _, error = command("report", "b", "--baseline", "a", "--policy", "gate.toml")
    assert found == code
    assert said in error
    if said:
        assert error.startswith("illama-eval: policy: metrics.accuracy.top1.absolute = ")
        assert len(error.splitlines()) == 1


def test_saved_predictions_of_two_models_are_paired(measure, command):
    scores, labels = draw(200)
    measure("a", scores, labels, "accuracy")
    measure("b", scores[:, ::-1].copy(), labels, "accuracy")
    code, out, _ = command("compare", "a", "b", "--json")
    assert code == 0
    (found,) = json.loads(out)["comparisons"]
    assert found["flips"]["images"] == 200
    top1 = next(each for each in found["changes"] if each["metric"] == "top1")
    assert top1["low"] < top1["difference"] < top1["high"] < 0
    assert top1["p_holm"] < 1e-6
