from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from illama_eval.render.figures.shape_bias import observers_of
from illama_eval.results import Run

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


def test_pictures_are_measured_beside_observers(command, golden_checkpoint, pictures, tmp_path):
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
    "alexnet": (0.42944, 0.3922, 0.4675, 0.4508),
    "googlenet": (0.31190, 0.2794, 0.3464, 0.3908),
    "vgg16": (0.17219, 0.1469, 0.2008, 0.3708),
    "resnet50": (0.22071, 0.1922, 0.2521, 0.3883),
}


@pytest.mark.data
def test_published_observers_have_their_published_bias(command, undrawn, shared, tmp_path):
    table = shared / "data" / "cue_conflict" / "cnn_decisions.csv"
    code, _, error = command("shape-bias", "--observers", table, "--out", tmp_path)
    assert code == 0, error
    run = Run.load(tmp_path)
    for name, (bias, low, high, undecided) in KNOWN.items():
        wilson = run.value("shape_bias", "shape_bias_wilson", subject=name)
        assert wilson.value == pytest.approx(bias, abs=5e-6)
        assert (wilson.low, wilson.high) == (
            pytest.approx(low, abs=5e-5),
            pytest.approx(high, abs=5e-5),
        )
        found = run.value("shape_bias", "undecided", subject=name)
        assert found.value == pytest.approx(undecided, abs=5e-5)
        assert found.images == 1200
    macro = run.value("shape_bias", "shape_bias_macro", subject="resnet50").value
    assert macro == pytest.approx(0.19505, abs=5e-6)


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
