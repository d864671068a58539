"""`illama-eval quantize` from end to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from illama import load
from illama.checkpoint.load import read_checkpoint
from illama.preprocessing import TransformOptions
from illama.transforms import Transform
from illama_eval.quantize.mixed import mixed_json
from illama_eval.quantize.ptq import quantize as quantize_model
from illama_eval.quantize.schemes import QuantizationConfig
from illama_eval.results import Run
from illama_eval.subjects.checkpoint import open_checkpoint
from illama_eval.subjects.wrap import wrap


@pytest.fixture
def quantize(command, golden_checkpoint, small_images, training_images):
    """Return a function that runs the command on small sets, without timing anything."""

    def run(*words: object, checkpoint: Path | None = None) -> tuple[int, str, str]:
        given = ("--data", small_images, "--train-data", training_images)
        common = ("--limit", 12, "--train-limit", 24, "--out", "here")
        timing = () if "--latency" in words else ("--latency", "none")
        return command(
            "quantize", checkpoint or golden_checkpoint, *given, *common, *timing, *words
        )

    return run


def test_the_default_measures_all_before_and_after_and_leaves_a_file(
    quantize, without_figures, tmp_path
):
    code, out, err = quantize()
    assert code == 0, err
    here = tmp_path / "here"
    run = Run.load(here)
    first, second = run.header["subjects"]
    assert second["name"] == f"{first['name']}+w8a8-dynamic"
    studies = {row.study for row in run.rows if row.subject == second["name"]}
    assert studies == {"accuracy", "calibration", "rank", "collapse", "agreement"}
    record = second["quantization"]
    assert (
        record["label"]
        == "Post-training quantization; the paper's figures are of quantization-aware training"
    )
    assert record["bytes"]["total"] == (here / "model.safetensors").stat().st_size
    assert set(record["left"]) == {"head", "patch_embedding"}
    assert load(here / "model.safetensors").config.classes == 10
    assert len(out.splitlines()) < 10
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["file", "changed"]
    code, out, _ = quantize("--all")
    assert code == 0
    for words in (
        "quantization-aware training",
        "left in float: head",
        "get the same answer",
        "of fp32",
    ):
        assert words in " ".join(out.split())
    table = (here / "tables" / "quantization.md").read_text()
    assert "integer or float8" in table
    with (here / "tables" / "quantization.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert float(line["top1_low"]) <= float(line["top1_after"]) - float(line["top1_before"])


@pytest.mark.slow
def test_a_quantized_file_is_measured_like_any_other(
    quantize, undrawn, command, small_images, tmp_path
):
    quantize("--bits", 4)
    code, _, err = command(
        "accuracy",
        tmp_path / "here" / "model.safetensors",
        "--data",
        small_images,
        "--limit",
        12,
        "--out",
        "again",
    )
    assert code == 0, err
    name = Run.load(tmp_path / "here").header["subjects"][1]["name"]
    rows = [
        Run.load(tmp_path / "here").value("accuracy", "nll", subject=name),
        Run.load(tmp_path / "again").value("accuracy", "nll"),
    ]
    assert rows[0].value == pytest.approx(rows[1].value, rel=1e-6)
    assert rows[0].low == pytest.approx(rows[1].low, rel=1e-6)
    code, _, err = quantize("--overwrite", checkpoint=tmp_path / "here" / "model.safetensors")
    assert code == 3
    assert "quantized already" in err


@pytest.mark.slow
def test_a_finished_quantization_is_shown_again(quantize, undrawn, tmp_path):
    quantize("--bits", 4)
    before = (tmp_path / "here" / "run.json").stat().st_mtime_ns
    code, out, _ = quantize("--bits", 4)
    assert code == 0
    assert "top-1" in out
    assert (tmp_path / "here" / "run.json").stat().st_mtime_ns == before
    code, _, err = quantize("--bits", 3)
    assert code == 3
    assert "another" in err


@pytest.mark.slow
def test_simulated_arithmetic_has_no_speed(quantize, tmp_path):
    code, out, _ = quantize("--bits", 4, "--latency", "eager")
    assert code == 0
    assert "simulated" in out
    timing = Run.from_json((tmp_path / "here" / "timing.json").read_text())
    rows = [row for row in timing.rows if row.study == "speed"]
    assert [row.value for row in rows] == [None]


@pytest.mark.slow
def test_real_arithmetic_is_timed_beside_the_exact_model(quantize, tmp_path):
    code, out, _ = quantize("--bits", 8, "--latency", "eager", "--all")
    assert code == 0
    timing = Run.from_json((tmp_path / "here" / "timing.json").read_text())
    rows = [row for row in timing.rows if row.metric == "latency"]
    assert {(row.at["batch"], row.at["mode"]) for row in rows} == {(1, "eager"), (64, "eager")}
    assert all(row.low <= row.value <= row.high for row in rows)
    assert "CPU threads" in " ".join(out.split())


def test_the_sensitivity_map_has_a_place_for_every_layer_and_kind(quantize, sketched, tmp_path):
    code, out, err = quantize("--bits", 3, "--sensitivity")
    assert code == 0, err
    run = Run.load(tmp_path / "here")
    rows = [row for row in run.rows if row.metric == "kl"]
    assert len(rows) == 3 * 4
    assert all(row.low <= row.value <= row.high and row.value > 0 for row in rows)
    assert (tmp_path / "here" / "figures" / "sensitivity_w3.svg").exists()
    assert "one layer at a time in w3" in out


def test_a_mixed_scheme_stays_within_its_budget(quantize, undrawn, tmp_path):
    code, _, err = quantize("--mixed", "--budget", 0.3)
    assert code == 0, err
    described = Run.load(tmp_path / "here").header["subjects"][1]["quantization"]
    size = described["bytes"]
    assert size["total"] <= 0.3 * size["full_precision"]
    layers = json.loads((tmp_path / "here" / "mixed.json").read_text())["layers"]
    assert layers == described["mixed"]


@pytest.mark.slow
def test_a_mixed_scheme_is_taken_back(quantize, undrawn, tmp_path):
    quantize("--mixed", "--budget", 0.3)
    layers = json.loads((tmp_path / "here" / "mixed.json").read_text())["layers"]
    mixed = (tmp_path / "here" / "mixed.json").rename(tmp_path / "chosen.json")
    code, _, err = quantize("--scheme", mixed, "--overwrite")
    assert code == 0, err
    again = Run.load(tmp_path / "here").header["subjects"][1]
    assert again["name"].endswith("+chosen")
    assert again["quantization"]["mixed"] == layers


@pytest.mark.slow
def test_a_sweep_is_one_table_and_one_figure(quantize, tmp_path):
    code, out, err = quantize("--sweep")
    assert code == 0, err
    lines = (tmp_path / "here" / "tables" / "quantization.csv").read_text().splitlines()
    assert len(lines) == 1 + 14
    assert (tmp_path / "here" / "figures" / "agreement_by_size.svg").exists()
    assert "w3-gptq" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scheme", "fp8"], "GPU"),
        (["--scheme", "w5"], "w5"),
        (["--bits", 4, "--group-size", 40], "does not divide"),
        (["--exclude", "heda"], "matches no layer"),
        (["--scheme", "w8a8-static", "--train-limit", 500], "70"),
        (["--mixed", "--budget", 0.01], "fewest bits"),
        (["--mixed", "--budget", 2], "between 0 and 1"),
        (["--mixed", "--sweep"], "choose one"),
        (["--dtype", "fp16"], "fp16"),
        (["--scheme", "missing.json"], "missing.json"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(quantize, words, said):
    code, _, err = quantize(*words)
    assert code == 3
    *doing, last = err.strip().splitlines()
    assert said in last
    assert all(line.startswith("preparing") for line in doing)


def test_calibrating_on_the_reported_images_is_refused(command, golden_checkpoint, small_images):
    code, _, err = command(
        "quantize",
        golden_checkpoint,
        "--data",
        small_images,
        "--scheme",
        "w8a8-static",
        "--train-limit",
        20,
    )
    assert code == 3
    assert "20 of 20 images are among the reported ones" in err


@pytest.mark.parametrize("words", [["--bits", 5], ["--bits", 8, "--scheme", "w4"]], ids=str)
def test_an_unusable_command_line_is_code_two(quantize, words):
    code, _, err = quantize(*words)
    assert code == 2
    assert "--bits" in err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--sweep", "--bits", 4], "--bits or --scheme"),
        (["--sweep", "--rounding", "mse"], "--rounding"),
        (["--mixed", "--scheme", "w4"], "--bits or --scheme"),
        (["--budget", 0.4], "--budget"),
        (["--sensitivity", "--latency", "eager"], "--latency"),
        (["--scheme", "mixed.json", "--exclude", "none"], "--exclude"),
        (["--scheme", "mixed.json", "--group-size", 16], "--group-size"),
    ],
    ids=str,
)
def test_an_option_that_would_change_nothing_is_refused(quantize, tmp_path, words, option):
    text = mixed_json({"head": "w4"}, QuantizationConfig(exclude=()), {})
    (tmp_path / "mixed.json").write_text(text)
    code, _, err = quantize(*words)
    assert code == 2
    assert f"{option} changes nothing beside" in err
    assert len(err.strip().splitlines()) == 1


def test_a_quantized_file_keeps_its_transform_and_is_refused_where_it_cannot_be_used(
    command, golden_checkpoint, small_images, tmp_path
):
    subject = open_checkpoint(
        golden_checkpoint, device=torch.device("cpu"), transform=TransformOptions.parse(mean="0.5")
    )
    path = tmp_path / "quantized.safetensors"
    path.write_bytes(quantize_model(subject, QuantizationConfig(scheme="w8")).file)
    seen = read_checkpoint(path)
    assert seen.transform == subject.transform
    assert seen.assumptions == ()
    shown = ("--data", small_images)
    for words in (("speed", path), ("transfer", path, *shown, "--probe", "finetune")):
        code, _, err = command(*words)
        assert (code, "is quantized" in err) == (3, True), err
        assert len(err.strip().splitlines()) == 1


class Pooled(nn.Module):
    """A network of someone else's: two layers for each of 64 patches, and their mean."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 32, 4, stride=4)
        self.blocks = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.fc = nn.Linear(32, classes) if classes else nn.Identity()

    def forward(self, images):
        return self.fc(self.blocks(self.patches(images).flatten(2).transpose(1, 2)).mean(1))


@pytest.fixture
def quantize_network(quantize, monkeypatch):
    """Return a function that runs the command on such a network, of 10 classes by default."""

    def run(*words: object, classes: int = 10) -> tuple[int, str, str]:
        network = wrap(Pooled(classes), Transform(image_size=32, resize="warp"), classes or None)
        monkeypatch.setattr("illama_eval.commands.resolve.open_subjects", lambda _: (network,))
        code, out, err = quantize(*words, "--all")
        return code, " ".join(out.split()), " ".join(err.split())

    return run


def test_another_network_is_measured_before_and_after_without_a_file(
    quantize_network, undrawn, tmp_path
):
    code, out, err = quantize_network("--bits", 4)
    assert code == 0, err
    assert "Pooled: 2 linear layers are quantized, 67.3% of the weights; what stays" in err
    assert "no quantized file is written, the layout of quantized files has the layers of" in err
    for words in (
        "no file is written",
        "2 linear layers",
        "left in float: fc (excluded by 'head')",
    ):
        assert words in out
    assert not (tmp_path / "here" / "model.safetensors").exists()
    run = Run.load(tmp_path / "here")
    studies = {row.study for row in run.rows if row.subject == "Pooled+w4"}
    assert studies == {"accuracy", "calibration", "agreement"}
    record = run.header["subjects"][1]["quantization"]
    assert record["share"] == pytest.approx(4096 / 6090)
    assert record["bytes"]["values"] == 4096 / 2


def test_a_network_without_a_head_is_compared_by_its_features(quantize_network, undrawn, tmp_path):
    code, out, err = quantize_network("--bits", 4, classes=0)
    assert code == 0, err
    assert "SQNR of features" in out
    row = Run.load(tmp_path / "here").value("feature_agreement", "feature_sqnr")
    assert 10 < row.value < 50
    code, _, err = quantize_network("--sensitivity", "--overwrite", classes=0)
    assert code == 3
    assert "this network has no head" in err


@pytest.mark.slow
def test_another_network_has_sensitivity_mixed_schemes_and_a_sweep(quantize_network, tmp_path):
    code, out, err = quantize_network("--bits", 3, "--sensitivity")
    assert code == 0, err
    rows = [row for row in Run.load(tmp_path / "here").rows if row.metric == "kl"]
    assert [row.at["layer"] for row in rows] == [1, 3]
    assert {row.at["kind"] for row in rows} == {"blocks.*"}
    code, _, err = quantize_network("--mixed", "--budget", 0.6, "--overwrite")
    assert code == 0, err
    size = Run.load(tmp_path / "here").header["subjects"][1]["quantization"]["bytes"]
    assert size["total"] <= 0.6 * size["full_precision"]
    code, out, err = quantize_network("--sweep", "--overwrite")
    assert code == 0, err
    assert "--smooth is left out" in err
    assert "w3-gptq" in out
