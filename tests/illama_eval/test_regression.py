"""Regressions planted in the bundled model: each fails the gate, and its metric is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from illama.checkpoint.load import load
from illama.checkpoint.save import save_checkpoint
from illama.model import Model
from illama.sources import open_source
from illama_eval import Run, evaluate
from illama_eval.compare.gate import GateResult, check, write_baseline
from illama_eval.render.gate.words import sentence
from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.calibration import Calibration
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT, open_checkpoint

IMAGES = 300


def measure(checkpoint: Path, out: Path, preprocess: str = "model", images: int = IMAGES) -> Run:
    """Measure a checkpoint on some of the demo's pictures."""
    subject = open_checkpoint(checkpoint, device="cpu", preprocess=preprocess)
    source = open_source("demo").limit(images, 0)
    return evaluate(subject, source, [Accuracy(), Calibration()], out)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a baseline file of the bundled model."""
    folder = tmp_path_factory.mktemp("baseline")
    measure(DEMO_CHECKPOINT, folder / "run")
    write_baseline(folder / "run", folder / "baseline.json")
    return folder / "baseline.json"


def judge(change: Callable[[Model], object], baseline: Path, folder: Path) -> GateResult:
    """Change the bundled model, save it as a valid checkpoint, measure it, and judge it."""
    model = load(DEMO_CHECKPOINT)
    with torch.no_grad():
        change(model)
    save_checkpoint(model, folder / "changed.safetensors")
    measure(folder / "changed.safetensors", folder / "run")
    return check(folder / "run", baseline)


def add_noise(model: Model) -> None:
    random = torch.Generator().manual_seed(0)
    for weights in model.parameters():
        weights.add_(0.5 * weights.std() * torch.randn(weights.shape, generator=random))


def zero_a_projection(model: Model) -> None:
    projection = model.blocks[1].attention.projection
    projection.weight.zero_()
    projection.bias.zero_()


def round_to_2_bits(model: Model) -> None:
    """Round each row of each matrix to -1, 0, 1 times its largest weight, but not the head."""
    for name, weights in model.named_parameters():
        if weights.ndim == 2 and not name.startswith("head"):
            scale = weights.abs().amax(1, keepdim=True)
            weights.copy_((weights / scale).round() * scale)


@pytest.mark.parametrize("change", [add_noise, zero_a_projection, round_to_2_bits])
def test_a_planted_regression_fails_the_gate_and_is_named(change, baseline, tmp_path):
    found = judge(change, baseline, tmp_path)
    assert found.exit_code == 1
    assert "accuracy.top1" in {each.name for each in found.of("fail")}
    # The baseline has one wrong answer, so its log loss has no interval: it may be inconclusive.
    assert "accuracy.nll" not in {each.name for each in found.of("pass")}
    assert re.match(r"Regression in \d of 9 gated metrics: top-1 accuracy ", sentence(found))


def test_a_second_run_of_the_same_weights_passes(baseline, tmp_path):
    found = judge(lambda _: None, baseline, tmp_path)
    assert found.exit_code == 0
    assert {each.state for each in found.of("pass")} == {"same"}
    assert not found.of("warn", "fail", "error")


def test_another_transform_is_not_judged_and_is_named(baseline, tmp_path):
    measure(DEMO_CHECKPOINT, tmp_path / "run", preprocess="paper-calibration")
    found = check(tmp_path / "run", baseline)
    assert found.exit_code == 3
    assert "transform.resize is direct in the baseline and short-side here" in found.problem


def test_other_images_are_not_judged_and_are_named(baseline, tmp_path):
    measure(DEMO_CHECKPOINT, tmp_path / "run", images=20)
    found = check(tmp_path / "run", baseline)
    assert found.exit_code == 3
    assert "source.fingerprint" in found.problem
