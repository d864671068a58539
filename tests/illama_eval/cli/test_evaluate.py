from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer
from PIL import Image

from illama_eval import cli, speed
from illama_eval.commands import export, table
from illama_eval.quantize import activations, rounding
from illama_eval.render.style import figure
from illama_eval.render.tables import models
from illama_eval.results import Run
from illama_eval.studies import calibration
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT
from illama_eval.transfer import features, finetune

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of ten class folders with one noise JPEG each, and a broken one more."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for label in range(10):
        folder = root / f"class{label}"
        folder.mkdir()
        pixels = random.integers(0, 256, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "noise.jpg")
    (root / "class3" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return root


def test_help_does_not_import_torch() -> None:
    script = """
import sys
from illama_eval.cli import main
for words in (["--help"], ["run", "--help"], ["list", "--help"]):
    sys.argv = ["illama-eval", *words]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, words
    assert "torch" not in sys.modules, words
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage") == 3


def test_run_measures_everything_and_writes_a_run_directory(
    command: Command, golden_checkpoint: Path, small_images: Path, tmp_path: Path
) -> None:
    code, out, err = command("run", golden_checkpoint, "--data", small_images, "--limit", 24)
    assert code == 0, err
    (directory,) = (tmp_path / "reports").glob("official_micro-*/run-noise*")
    run = Run.load(directory)
    measured = {"accuracy", "calibration", "rank", "collapse", "causality"}
    assert {row.study for row in run.rows} == measured
    assert "top-1" in out
    assert f"written to {directory.relative_to(tmp_path)}" in err
    assert (directory / "tables" / "headline.md").exists()
    assert list((directory / "figures").glob("*.svg"))
    assert str(tmp_path) not in (directory / "run.json").read_text()


def test_json_on_stdout_is_the_run_and_nothing_else(
    command: Command, undrawn: None, golden_checkpoint: Path, small_images: Path, tmp_path: Path
) -> None:
    code, out, _ = command(
        "accuracy", golden_checkpoint, "--data", small_images, "--out", "here", "--json"
    )
    assert code == 0
    assert out == (tmp_path / "here" / "run.json").read_text()
    assert json.loads(out)["schema_version"] == 2


def test_an_unreadable_image_is_named_counted_and_gives_exit_code_4(
    command: Command, undrawn: None, golden_checkpoint: Path, photographs: Path, tmp_path: Path
) -> None:
    code, _, err = command("accuracy", golden_checkpoint, "--data", photographs, "--out", "out")
    assert code == 4
    assert "class3/broken" in err
    run = Run.load(tmp_path / "out")
    assert run.header["images_seen"] == 10
    assert "1 of 11 images unreadable" in run.value("accuracy", "top1").reason


@pytest.mark.slow
def test_under_torchrun_unreadable_images_are_named_and_counted_with_code_0(
    golden_checkpoint, photographs, tmp_path
):
    out, script = tmp_path / "run", tmp_path / "script.py"
    script.write_text("from illama_eval.cli import main\n\nmain()\n")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    given = [script, "accuracy", golden_checkpoint, "--data", photographs, "--out", out]
    done = subprocess.run(
        [sys.executable, *launch, *map(str, given), "--no-samples"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert said.count("1 images were unreadable and left out") == 1
    assert said.count("under torchrun this ends with 0 instead of 4") == 1
    assert Run.load(out).header["unreadable"]["count"] == 1


def test_predictions_are_calibrated_without_a_checkpoint(
    command: Command, undrawn: None, tmp_path: Path
) -> None:
    confidence = np.array([1 / 15, 3 / 15, 0.21, 6 / 15, 0.55, 9 / 15, 14 / 15, 0.95, 0.999, 1.0])
    correct = np.array([0, 0, 1, 0, 1, 0, 1, 1, 1, 0], dtype=bool)
    rest = ((1 - confidence) / 100)[:, None].repeat(100, axis=1)
    np.savez(
        tmp_path / "edges.npz",
        probabilities=np.concatenate((confidence[:, None], rest), axis=1),
        labels=np.where(correct, 0, 1),
    )
    code, _, err = command("calibrate", "--predictions", "edges.npz", "--out", "out")
    assert code == 0, err
    run = Run.load(tmp_path / "out")
    for metric, value in (("ece", 0.262233), ("mce", 0.79), ("ece_left", 0.2989)):
        assert run.value("calibration", metric).value == pytest.approx(value, abs=5e-7)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("lenet-5-cifar-10", {"ece": 0.107888, "mce": 0.185821, "nll": 1.369868}),
        ("wideresnet-16-4-cifar-10", {"ece": 0.053716, "mce": 0.262389, "nll": 0.377804}),
    ],
)
def test_real_predictions_give_the_known_answers(
    name: str, answers: dict[str, float], command: Command, shared: Path, tmp_path: Path
) -> None:
    with np.load(shared / "data" / "calibration" / f"{name}.npz") as stored:
        np.savez(
            tmp_path / "all.npz",
            logits=np.concatenate((stored["logits_val"], stored["logits_test"])),
            labels=np.concatenate((stored["labels_val"], stored["labels_test"])),
        )
    code, _, err = command("calibrate", "--predictions", "all.npz", "--out", "out")
    assert code == 0, err
    for metric, value in answers.items():
        found = Run.load(tmp_path / "out").value("calibration", metric).value
        assert found == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rank", "missing.pth"], 3, "missing.pth"),
        (["rank", "--data", "nowhere"], 3, "nowhere"),
        (["accuracy", "--predictions", "missing.npz"], 3, "missing.npz"),
        (["rank", "--device", "cuda:99"], 3, "--device cuda:99"),
        (["rank", "--device", "toaster"], 2, "toaster"),
        (["rank", "--batch-size", "0"], 2, "--batch-size"),
        (["rank", "--spectra", "few"], 2, "--spectra"),
        (["rank", "--threshold", "2"], 2, "--threshold"),
        (["rank", "--threshold", "0"], 2, "threshold 0.0 is not above 0"),
        (["calibrate", "--bins", "1000000000"], 2, "bins=1000000000 is not 1 to 1,000"),
        (["accuracy", "--save-every", "nan"], 2, "--save-every"),
        (["rank", "--unheard-of"], 2, "--unheard-of"),
        (["unheard-of"], 2, "unheard-of"),
    ],
)
def test_unusable_input_is_one_line_and_the_right_exit_code(
    words: list[str], code: int, message: str, command: Command
) -> None:
    found, out, err = command(*words)
    assert found == code
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_rare_options_are_shown_by_help_all_alone(command):
    _, short, _ = command("run", "--help")
    code, long, _ = command("run", "--help-all")
    assert code == 0
    for option in ("--data", "--limit", "--out", "--all", "--only"):
        assert option in short
    for option in ("--interpolation", "--save-every", "--batch-size"):
        assert option not in short
        assert option in long
    assert len(re.findall(r"^. --\w", short, flags=re.MULTILINE)) <= 15


def test_every_command_is_in_a_panel_that_says_what_it_is_for(command):
    _, text, _ = command("--help")
    for panel in ("Measure a model", "Change a model and measure it", "Read finished runs"):
        assert panel in text
    assert "\N{BOX DRAWINGS LIGHT HORIZONTAL} Commands" not in text


def test_no_help_text_has_brackets_which_the_help_page_would_swallow():
    group = typer.main.get_command(cli.app)
    for command in group.commands.values():
        for each in command.params:
            assert "[" not in (getattr(each, "help", "") or ""), (command.name, each.name)


CHOICES = {
    ("calibrate", "calibration_split"): calibration.Split,
    ("quantize", "rounding"): rounding.Rounding,
    ("quantize", "clipping"): activations.Clipping,
    ("quantize", "latency"): speed.Latency,
    ("transfer", "features"): features.Kind,
    ("transfer", "preset"): finetune.Preset,
    ("report", "style"): figure.Purpose,
    ("table", "form"): table.Form,
    ("table", "intervals"): models.Intervals,
    ("export", "to"): export.Sink,
}
"""Choices that the command line spells out, so that --help needs none of these modules."""


@pytest.mark.parametrize(("command_name", "option"), CHOICES)
def test_an_option_offers_what_the_function_behind_it_takes(command_name, option):
    command = typer.main.get_command(cli.app).commands[command_name]
    (parameter,) = (each for each in command.params if each.name == option)
    offered = get_args(parameter.type_descriptor.annotation)
    assert offered == get_args(CHOICES[command_name, option])


def test_repeated_pictures_and_an_accuracy_of_chance_are_named(command, undrawn, tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    images[7] = images[3]
    np.savez(tmp_path / "noise.npz", images=images, labels=np.arange(60) % 10)
    code, said, error = command("accuracy", DEMO_CHECKPOINT, "--data", "noise.npz", "--out", "run")
    assert code == 0, error
    assert "repeated pictures under other ids: 1 (first: 00007 is 00003)" in error
    assert "\N{BLACK RIGHT-POINTING SMALL TRIANGLE} It answers no better than chance" in said


def test_collapse_says_that_nothing_massive_was_removed(
    command: Command, undrawn: None, tmp_path: Path
) -> None:
    words = ("collapse", "--limit", 8, "--without-massive", "--out", tmp_path / "run")
    code, _, err = command(*words)
    assert code == 0, err
    run = Run.load(tmp_path / "run")
    first = [v.verdict for v in run.verdicts if v.name == "massive_activations"]
    assert first == ["none", "none"]
    flips = [row for row in run.rows if row.metric == "flips"]
    assert [(row.subject, row.value) for row in flips] == [
        ("illama_demo_nano, massive activations removed", 0)
    ]
