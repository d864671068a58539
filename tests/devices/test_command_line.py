"""Every command on a pretended GPU: no mixed devices, and the rows of the CPU."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from illama_eval.cli import main
from illama_eval.results import Row, Run
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT

On = Callable[[str], contextlib.AbstractContextManager[None]]
Twice = Callable[..., tuple[tuple[Row, ...], tuple[Row, ...]]]

FEW = ("--limit", 8, "--batch-size", 4)
PAIR = (DEMO_CHECKPOINT, f"{DEMO_CHECKPOINT}:soft_mask=1", "--data", "demo")
COMMANDS = {
    "run": ("run", *FEW, "--spectra", 4),
    "two": ("run", *PAIR, *FEW, "--only", "accuracy,agreement"),
    "rank": ("rank", *FEW, "--spectra", 4),
    "anytime": ("anytime", *FEW),
    "lens": ("lens", *FEW),
    "distance": ("distance", *FEW),
    "shape-bias": ("shape-bias", *FEW),
    "segment": ("segment", "--limit", 1),
    "quantize": ("quantize", *FEW, "--scheme", "w8", "--latency", "none"),
    "linear": ("transfer", "--limit", 20, "--train-limit", 200, "--grid", 1),
    "knn": ("transfer", "--probe", "knn", "--data", "flat", "--shots", "1,2", "--draws", 2),
}
"""Command lines by what is new in each."""


@pytest.fixture
def twice(
    on: On, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Twice:
    """Return a function that runs a command on the CPU and on a GPU, and returns both's rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ILLAMA_DATA", raising=False)
    monkeypatch.setattr("illama_eval.commands.evaluate.render_directory", lambda _: None)

    def run(device: str, words: tuple[object, ...]) -> tuple[Row, ...]:
        given = [
            "illama-eval",
            *map(str, words),
            "--device",
            device,
            "--out",
            device,
            "--workers",
            "0",
        ]
        monkeypatch.setattr(sys, "argv", given)
        with on(device), pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
        return Run.load(tmp_path / device).rows

    return lambda *words: (run("cpu", words), run("cuda", words))


@pytest.mark.slow
@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_gives_the_rows_of_the_cpu(twice: Twice, words: tuple[object, ...]) -> None:
    cpu, gpu = twice(*words)
    for one, other in zip(cpu, gpu, strict=True):
        assert (one.metric, one.at, one.images) == (other.metric, other.at, other.images)
        assert (one.value is None) == (other.value is None), one
        assert one.value is None or one.value == pytest.approx(other.value, rel=1e-5, abs=1e-7), one
