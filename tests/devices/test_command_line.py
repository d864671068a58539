"""Every command on a pretended GPU: no mixed devices, and the rows of the CPU."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from illama.config import SIZES
from illama.sources import open_source
from illama.sources.demo import draw
from illama.training.loop import Execution, fit
from illama.training.recipe import find_recipe
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


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Return a folder of 24 pictures of 8 pixels in three classes."""
    for number, image in enumerate(draw("test", 24).images[:, ::4, ::4]):
        path = tmp_path / "flat" / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "flat"


@pytest.mark.slow
@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_gives_the_rows_of_the_cpu(twice: Twice, words: tuple[object, ...]) -> None:
    cpu, gpu = twice(*words)
    for one, other in zip(cpu, gpu, strict=True):
        assert (one.metric, one.at, one.images) == (other.metric, other.at, other.images)
        assert (one.value is None) == (other.value is None), one
        assert one.value is None or one.value == pytest.approx(other.value, rel=1e-5, abs=1e-7), one


def fill_gradients(loss: Tensor) -> None:
    """Give every parameter behind a loss a gradient of zero.

    torch's engine of the backward pass asks for a real device; what comes before and after it is
    on the pretended one.
    """
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)


@pytest.mark.slow
def test_a_step_of_training_is_on_the_gpu_with_the_loss_of_the_cpu(
    on: On, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "micro", {"width": 8, "depth": 2, "heads": 2, "patch_size": 4})
    monkeypatch.setattr(Tensor, "backward", fill_gradients)
    settings = ("size=micro", "image_size=8", "classes=3", "batch_size=24", "dtype=fp32")
    settings += ("epochs=1", "cutoff_soft=0", "warmup_epochs=0")
    recipe, source = find_recipe("demo").override(settings), open_source(str(flat))
    logs = []
    for device in ("cpu", "cuda"):
        with on(device):
            fit(recipe, source, source, tmp_path / device, execution=Execution(device=device))
        logs.append((tmp_path / device / "log.jsonl").read_text())
    cpu, gpu = (json.loads(each.splitlines()[-1]) for each in logs)
    for name in ("train_loss", "test_loss"):
        assert gpu[name] == pytest.approx(cpu[name], rel=1e-5), name
