"""The command on a page, run as it stands, leads to the run that the page shows."""

from __future__ import annotations

import os

import numpy as np
import pytest

from illama_eval.results import Run

HOW = ("--device", "cpu", "--batch-size", "7", "--workers", "0", "--save-every", "33")
"""Options that change no number, and so are left out."""
CASES = {
    "demo": ("run", "--limit", 12),
    "environment": ("accuracy", "CHECKPOINT", "--limit", 8),
    "options": (
        *("rank", "CHECKPOINT", "--data", "IMAGES", "--threshold", 0.9, "--spectra", "all"),
        *("--soft-mask", 0.5, "--no-samples", "--seed", 3, "--limit", 9, "--json"),
    ),
    "two": ("run", "CHECKPOINT", "CHECKPOINT", "--data", "IMAGES", "--dtype", "bf16"),
    "predictions": ("calibrate", "--predictions", "saved.npz", "--bins", 5),
    "shape bias": ("shape-bias", "--limit", 10),
    "segment": ("segment", "--limit", 2),
    "quantize": (
        *("quantize", "CHECKPOINT", "--data", "IMAGES", "--train-data", "TRAINING"),
        *("--scheme", "w8a8-static", "--exclude", "none", "--exclude", "*.down"),
        *("--train-limit", 16, "--latency", "none", "--limit", 8),
    ),
    "sensitivity": ("quantize", "--sensitivity", "--bits", 4, "--limit", 4),
    "transfer": (
        *("transfer", "--data", "digits", "--probe", "knn", "--neighbours", "3,1"),
        *("--train-limit", 100, "--limit", 20, "--shots", "1,all", "--cache", "kept"),
    ),
    "finetune": (
        *("transfer", "--data", "digits", "--probe", "finetune", "--train-limit", 64),
        *("--limit", 20, "--set", "epochs=1", "--set", "warmup_epochs=0", "--set", "cutoff_soft=0"),
    ),
}

SLOW = {"two", "shape bias", "segment", "transfer", "finetune"}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES]
)
def test_the_command_of_a_run_repeats_it(
    command, undrawn, monkeypatch, tmp_path, golden_checkpoint, small_images, training_images, case
):
    paths = {"CHECKPOINT": golden_checkpoint, "IMAGES": small_images, "TRAINING": training_images}
    logits = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
    np.savez("saved.npz", logits=logits, labels=np.arange(40) % 10)
    if case == "environment":
        monkeypatch.setenv("ILLAMA_DATA", str(small_images))
    given = [paths.get(word, word) for word in CASES[case]]
    assert command(*given, *HOW)[0] == 0
    monkeypatch.delenv("ILLAMA_DATA", raising=False)
    (directory,) = (path.parent for path in tmp_path.rglob("run.json"))
    words = Run.load(directory).header["command"]
    assert words[0] == "illama-eval"
    assert not set(words) & set(HOW)
    assert not any(os.path.isabs(word) for word in words)  # noqa: PTH117 - a word, not a path
    code, _, said = command(*words[1:])
    assert code == 0, said
    assert "measured before, shown from" in " ".join(said.split())
    assert len(list(tmp_path.rglob("run.json"))) == 1


def test_speed_says_how_it_is_repeated(command, undrawn, monkeypatch, tmp_path, golden_checkpoint):
    monkeypatch.setattr("illama_eval.speed.time_both", lambda *_, **__: iter(()))
    monkeypatch.setattr("illama_eval.speed.memory", lambda *_, **__: iter(()))
    code, _, said = command("speed", golden_checkpoint, "--out", "run", "--json")
    assert code == 0, said
    words = Run.load(tmp_path / "run").header["command"]
    assert words == ["illama-eval", "speed", os.path.relpath(golden_checkpoint)]
