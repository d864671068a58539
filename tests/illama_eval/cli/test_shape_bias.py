from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from illama_eval.cue_conflict import read_observers
from illama_eval.render.figures.shape_bias import observers_of
from illama_eval.results import Run
from illama_eval.run.evaluate import evaluate
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.subjects.predictions import open_observers

THREE = tuple((name, (index,)) for index, name in enumerate("abc"))


COLUMNS = ("subject", "shape", "texture", "decision", "image")


def write_decisions(path, lines, columns=COLUMNS):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)
    return path


@pytest.fixture
def pictures(tmp_path):
    """Write twelve pictures of conflicting cues, in folders by shape."""
    for shape, other in (("cat", "dog"), ("dog", "cat")):
        for number in range(1, 7):
            path = tmp_path / "pictures" / shape / f"{shape}{number}-{other}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            light = 40 if shape == "cat" else 200
            Image.fromarray(np.full((64, 64, 3), light + number, np.uint8)).save(path)
    return tmp_path / "pictures"


def test_pictures_are_measured_beside_observers(
    command, sketched, golden_checkpoint, pictures, tmp_path
):
    table = tmp_path / "categories.json"
    table.write_text('{"cat": [0, 1], "dog": [2, 3], "car": [4]}', encoding="utf-8")
    lines = [
        ["x", path.parent.name, "dog" if path.parent.name == "cat" else "cat", "cat", path.stem]
        for path in sorted(pictures.rglob("*.png"))
    ]
    observers = write_decisions(tmp_path / "people.csv", lines)
    code, printed, error = command(
        "shape-bias",
        golden_checkpoint,
        "--data",
        pictures,
        "--categories",
        table,
        "--observers",
        observers,
        "--out",
        tmp_path / "run",
    )
    assert code == 0, error
    run = Run.load(tmp_path / "run")
    assert "shape bias" in printed
    assert run.value("shape_bias", "shape_bias", observer="x").value == 0.5
    assert run.header["identity"]["studies"]["shape_bias"]["categories"][2] == ["car", [4]]
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Shape or texture" in page
    assert [each.label for each in observers_of(run)] == ["official_micro", "x"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shape-bias",), "give --categories FILE"),
        (("accuracy",), "accuracy needs labels"),
        (("shape-bias", "--data", "digits"), "shape_bias needs cues"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    command, golden_checkpoint, pictures, tmp_path, words, said
):
    data = () if "--data" in words else ("--data", pictures)
    code, _, error = command(*words[:1], golden_checkpoint, *words[1:], *data, "--out", tmp_path)
    assert code == 3
    assert said in error


def test_a_file_without_a_texture_in_its_name_is_refused(command, golden_checkpoint, pictures):
    (pictures / "cat" / "cat1-dog1.png").rename(pictures / "cat" / "kitten.png")
    code, _, error = command("shape-bias", golden_checkpoint, "--data", pictures)
    assert code == 3
    assert "1 of 12 file names have no texture (first: 'cat/kitten')" in error


def test_the_demo_has_a_bias_of_its_own_and_observers_can_stand_alone(command, undrawn, tmp_path):
    code, _, error = command("shape-bias", "--limit", 200, "--out", tmp_path / "demo")
    assert code == 0, error
    bias = Run.load(tmp_path / "demo").value("shape_bias", "shape_bias")
    assert 0.3 < bias.value < 0.9
    lines = [
        [who, "a", "b", said, f"a{k}-b{k}"]
        for who, said in (("x", "a"), ("y", "na"))
        for k in range(3)
    ]
    table = write_decisions(tmp_path / "decisions.csv", lines)
    code, _, error = command("shape-bias", "--observers", table, "--out", tmp_path / "others")
    assert code == 0, error
    run = Run.load(tmp_path / "others")
    assert run.value("shape_bias", "shape_bias", subject="x").value == 1
    assert run.value("shape_bias", "undecided", subject="y").value == 1


KNOWN = {
    "alexnet": (0.42944, 0.4508),
    "googlenet": (0.31190, 0.3908),
    "vgg16": (0.17219, 0.3708),
    "resnet50": (0.22071, 0.3883),
}


@pytest.mark.data
def test_published_observers_have_their_published_bias(command, undrawn, shared, tmp_path):
    table = shared / "data" / "cue_conflict" / "cnn_decisions.csv"
    code, out, error = command("shape-bias", "--observers", table, "--all", "--out", tmp_path)
    assert code == 0, error
    assert "intervals resample groups (160 by shape and 48 by texture)" in " ".join(out.split())
    run = Run.load(tmp_path)
    for name, (bias, undecided) in KNOWN.items():
        found = run.value("shape_bias", "shape_bias", subject=name)
        assert (found.value, found.images) == (pytest.approx(bias, abs=5e-6), 1200)
        found = run.value("shape_bias", "undecided", subject=name)
        assert (found.value, found.images) == (pytest.approx(undecided, abs=5e-5), 1200)
    macro = run.value("shape_bias", "shape_bias_macro", subject="resnet50").value
    assert macro == pytest.approx(0.19505, abs=5e-6)
    assert "shape_bias_wilson" not in {row.metric for row in run.rows}


INTERVALS = {(): (0.393, 0.470), ("texture",): (0.344, 0.524), ("shape", "texture"): (0.325, 0.546)}
"""Ways of grouping -> 95 % interval of AlexNet's shape bias, by other replicates."""


@pytest.mark.data
@pytest.mark.parametrize("ways", INTERVALS)
def test_the_interval_of_the_bias_is_that_of_shapes_and_textures(shared, ways):
    table = read_observers([shared / "data" / "cue_conflict" / "cnn_decisions.csv"])
    (alexnet, *_), source = open_observers(table)
    groups = {way: source.groups[way] for way in ways} or None
    own = tuple((name, (index,)) for index, name in enumerate(table.categories))
    run = evaluate(alexnet, replace(source, groups=groups), [ShapeBias(categories=own)])
    bias = run.value("shape_bias", "shape_bias")
    assert (bias.low, bias.high) == pytest.approx(INTERVALS[ways], abs=0.02)
    (verdict,) = run.verdicts
    assert verdict.verdict == ("no preference shown" if ways else "decides by texture")
    wilson = [row for row in run.rows if row.metric == "shape_bias_wilson" and not row.at]
    assert [(row.low, row.high) for row in wilson] == (
        [] if ways else [pytest.approx((0.3922, 0.4675), abs=5e-5)]
    )


def test_a_run_on_other_pictures_leaves_the_bias_out(command, undrawn, tmp_path):
    code, _, error = command("run", "--limit", 8, "--out", tmp_path)
    assert code == 0, error
    assert "shape_bias" not in {row.study for row in Run.load(tmp_path).rows}


def test_a_run_on_conflicting_cues_measures_the_bias_with_everything_else(
    command, undrawn, tmp_path
):
    words = ("run", "--data", "demo", "--split", "cue-conflict", "--limit", 8)
    code, _, error = command(*words, "--out", tmp_path)
    assert code == 0, error
    assert {row.study for row in Run.load(tmp_path).rows} >= {"shape_bias", "accuracy", "rank"}


def test_quantizing_shows_the_bias_before_and_after(command, undrawn, tmp_path):
    words = ("quantize", "--bits", 8, "--data", "demo", "--split", "cue-conflict", "--limit", 12)
    code, _, error = command(*words, "--latency", "none", "--out", tmp_path)
    assert code == 0, error
    run = Run.load(tmp_path)
    subjects = {row.subject for row in run.rows if row.metric == "shape_bias" and not row.at}
    assert len(subjects) == 2
