"""A step of training on a pretended GPU, with its backward pass, its optimizer and its files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from illama.checkpoint.archive import unpack


@pytest.mark.slow
def test_a_step_of_training_gives_the_losses_and_gradients_of_the_cpu(
    compile_library: Callable[[str], Path], flat: Path, tmp_path: Path
) -> None:
    guard, hooks = map(compile_library, ("guard", "hooks"))
    script = Path(__file__).with_name("train_a_step.py")
    words = [sys.executable, script, guard, hooks, flat, tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cpu, gpu = (Trained(tmp_path / device) for device in ("cpu-24", "cuda-24"))
    for name in ("train_loss", "test_loss"):
        assert gpu.record[name] == pytest.approx(cpu.record[name], rel=1e-5), name
    assert gpu.record["test_loss"] < gpu.record["train_loss"]
    assert len(gpu.gradients) == len(gpu.names)
    for gradient, expected in zip(gpu.gradients, cpu.gradients, strict=True):
        size = float(expected.abs().max())
        assert size > 0
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5 * size)
    waits = {int(steps): Counter(of) for steps, of in read(tmp_path / "waits.json").items()}
    more = waits[4] - waits[2]
    assert more.total() == 2, f"one for each step's loss, which is looked at first: {more}"


def read(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


class Trained:
    """What a training left in its folder."""

    def __init__(self, folder: Path) -> None:
        self.record: dict[str, float] = read(folder / "log.jsonl")
        file: dict[str, Any] = unpack(folder / "checkpoint-1.pth").payload
        self.names = file["model"].keys()
        state = file["training"]["optimizer"]["state"]
        self.gradients: list[Tensor] = [state[index]["exp_avg"] for index in sorted(state)]
        """Of the only step, times 1 - beta."""
