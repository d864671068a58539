"""Shape bias: hand-made decisions with known answers, and the published ones."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from illama.observation import OutputSeen
from illama_eval.cue_conflict import (
    ENTRY_LEVEL,
    CueConflictError,
    Observer,
    choose_categories,
    read_observers,
)
from illama_eval.render.figures.shape_bias import deciders_of, read_published
from illama_eval.results import Run
from illama_eval.statistics import wilson_interval
from illama_eval.studies.shape_bias import ShapeBias, decide, error_consistency
from illama_eval.study import accumulate

THREE = tuple((name, (index,)) for index, name in enumerate("abc"))
COLUMNS = ("subject", "shape", "texture", "decision", "image")


@pytest.fixture
def measure(make_batch):
    """Return a function from decisions (None: no response) and cues to rows by metric and place."""

    def rows(decisions, cues, observers=(), categories=THREE):
        batch = replace(
            make_batch(torch.zeros(len(cues), dtype=torch.int64)), cues=torch.tensor(cues)
        )
        logits = torch.full((len(cues), 3), -torch.inf)
        for image, chosen in enumerate(decisions):
            if chosen is not None:
                logits[image, chosen] = 0.0
        study = ShapeBias(categories=categories, observers=observers)
        total = {}
        accumulate(total, study.measure(OutputSeen(logits=logits, batch=batch)))
        found = study.summarize(total)
        return {(row.metric, tuple(row.at.items())): row for row in found.rows} | {
            "verdict": found.verdicts[0]
        }

    return rows


def test_only_decisions_for_either_cue_of_a_conflict_count(measure):
    cues = [[0, 1], [0, 1], [1, 2], [2, 0], [2, 2], [1, 0]]
    rows = measure([0, 1, 1, 1, 2, None], cues)  # shape, texture, shape, neither, no conflict, -
    assert rows["shape_bias", ()].value == pytest.approx(2 / 3)
    assert rows["shape_bias", ()].images == 5
    assert rows["undecided", ()].value == pytest.approx(2 / 5)
    assert rows["category_accuracy", ()].value == pytest.approx(3 / 6)
    assert rows["shape_decisions", ()].value == 2
    assert rows["texture_decisions", ()].value == 1
    assert rows["nonfinite", ()].value == 0
    assert rows["shape_bias", (("category", "a"),)].value == 0.5
    assert rows["shape_bias_macro", ()].value == pytest.approx((0.5 + 1) / 2)  # c has no decision
    assert rows["shape_bias", (("category", "c"),)].value is None
    wilson = rows["shape_bias_wilson", ()]
    assert (wilson.low, wilson.high) == wilson_interval(2, 3)


def test_pictures_whose_cues_agree_leave_the_bias_alone(measure):
    cues, decisions = [[0, 1], [1, 2], [2, 0]] * 4, [0, 2, 0] * 4
    alone = measure(decisions, cues)["shape_bias", ()].value
    assert measure([*decisions, 0, 1, 2], [*cues, [0, 0], [1, 1], [2, 2]])[
        "shape_bias", ()
    ].value == pytest.approx(alone)


def test_without_a_decision_there_is_no_bias_but_a_reason(measure):
    rows = measure([2, 2], [[0, 1], [1, 0]])
    assert rows["shape_bias", ()].value is None
    assert "decided for either" in rows["shape_bias", ()].reason
    assert rows["undecided", ()].value == 1
    assert rows["verdict"].verdict == "undecided"


@pytest.mark.parametrize(
    ("decision", "words"), [(0, "decides by shape"), (1, "decides by texture")]
)
def test_the_verdict_follows_the_interval(measure, decision, words):
    assert measure([decision] * 40, [[0, 1]] * 40)["verdict"].verdict == words


def test_broken_logits_decide_nothing_and_are_counted(make_batch):
    batch = replace(make_batch(torch.zeros(2, dtype=torch.int64)), cues=torch.tensor([[0, 1]] * 2))
    logits = torch.tensor([[torch.nan, 0, 0], [3.0, 0, 0]])
    study = ShapeBias(categories=THREE)
    total = {}
    accumulate(total, study.measure(OutputSeen(logits=logits, batch=batch)))
    rows = {row.metric: row.value for row in study.summarize(total).rows if not row.at}
    assert (rows["nonfinite"], rows["undecided"], rows["shape_bias"]) == (1, 0.5, 1)


def test_a_category_has_the_mean_probability_of_its_classes_not_their_sum():
    probabilities = torch.tensor([[0.3, 0.25, 0.25, 0.2]])
    assert decide(probabilities, ((0,), (1, 2, 3))).tolist() == [0]
    assert decide(probabilities, ((3,), (1, 2))).tolist() == [1]
    assert decide(torch.full((1, 4), 0.25), ((2, 3), (0, 1))).tolist() == [0]  # equal: the first


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_the_consistency_is_cohens_kappa(pairs):
    first, second = np.array(pairs).T
    counts = [len(pairs), first.sum(), second.sum(), (first == second).sum()]
    found = float(error_consistency(*torch.tensor(counts, dtype=torch.float64)))
    expected = first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean())
    if expected == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_observers_are_measured_on_the_pictures_that_they_saw(measure):
    decisions = {"00000": 0, "00001": 1, "00002": None}
    seen = Observer(name="o", kind="human", sha256="", decisions=decisions)
    rows = measure([0, 0, 0, 0], [[0, 1], [0, 1], [0, 1], [0, 1]], (seen,))
    at = (("observer", "o"),)
    assert rows["shape_bias", at].value == 0.5
    assert rows["shape_bias", at].images == 3
    assert rows["undecided", at].value == pytest.approx(1 / 3)
    assert rows["error_consistency", at].images == 3
    assert rows["error_consistency", ()].value == rows["error_consistency", at].value


def test_the_entry_level_categories_hold_207_indices_once_each():
    indices = [index for each in ENTRY_LEVEL.values() for index in each]
    assert (len(ENTRY_LEVEL), len(indices), len(set(indices))) == (16, 207, 207)


def test_a_table_of_categories_is_checked_against_head_and_pictures(tmp_path):
    table = tmp_path / "table.json"
    for content, words in (
        ("[]", "expected a JSON object"),
        ("{", "no readable JSON"),
        ('{"a": [0]}', "categories of the images are not among them .*'b'"),
        ('{"a": [0], "b": [5]}', "index 5 is outside the head of 5 classes"),
        ('{"a": [0], "b": [0]}', "index 0 stands in it twice"),
    ):
        table.write_text(content, encoding="utf-8")
        with pytest.raises(CueConflictError, match=words):
            choose_categories(["a", "b"], 5, table=table)
    table.write_text('{"c": [4], "b": [1, 2], "a": [0]}', encoding="utf-8")
    chosen = choose_categories(["a", "b"], 5, table=table)
    assert chosen == (("a", (0,)), ("b", (1, 2)), ("c", (4,)))
    with pytest.raises(CueConflictError, match="give --categories FILE"):
        choose_categories(["a", "b"], 5)
    with pytest.raises(CueConflictError, match="16 entry-level"):
        choose_categories(["cat", "unicorn"], 1000)


def write_decisions(path, lines, columns=COLUMNS):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)
    return path


@pytest.mark.parametrize(
    ("lines", "columns", "words"),
    [
        ([["x", "a", "b", "c", "a1-b1"]], COLUMNS, "line 2: decision 'c' is none of its 2"),
        ([["x", "a", "b", "a", "a1-b1"]] * 2, COLUMNS, "x decides twice on a1-b1"),
        ([["a", "b", "a", "a1-b1"]], COLUMNS[1:], "no column subject or model"),
        ([["x", "a", "b", "a"]], COLUMNS[:4], "no column image"),
        ([], COLUMNS, "holds no line"),
    ],
)
def test_unfit_tables_of_decisions_are_refused(tmp_path, lines, columns, words):
    path = write_decisions(tmp_path / "decisions.csv", lines, columns)
    with pytest.raises(CueConflictError, match=words):
        read_observers([path])


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
    assert [each.label for each in deciders_of(run)] == ["official_micro", "x"]


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
    assert "1 of 12 file names carry no texture (first: 'cat/kitten')" in error


def test_the_demo_has_a_bias_of_its_own_and_observers_can_stand_alone(command, tmp_path):
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


def test_the_published_decisions_are_the_known_ones():
    published = {each["name"]: each["decisions"] for each in read_published()["observers"]}
    totals = {
        name: tuple(map(sum, zip(*counts.values(), strict=True)))
        for name, counts in published.items()
    }
    assert totals == {
        "10 people": (9236, 398),
        "AlexNet": (283, 376),
        "GoogLeNet": (228, 503),
        "VGG-16": (130, 625),
        "ResNet-50": (162, 572),
    }
    assert all(set(counts) == set(ENTRY_LEVEL) for counts in published.values())


KNOWN = {
    "alexnet": (0.42944, 0.3922, 0.4675, 0.4508),
    "googlenet": (0.31190, 0.2794, 0.3464, 0.3908),
    "vgg16": (0.17219, 0.1469, 0.2008, 0.3708),
    "resnet50": (0.22071, 0.1922, 0.2521, 0.3883),
}


@pytest.mark.data
def test_published_observers_have_their_published_bias(command, shared, tmp_path):
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


@pytest.mark.data
def test_kept_agreeing_pictures_would_raise_the_bias_of_resnet50(shared):
    lines = read_observers([shared / "data" / "cue_conflict" / "cnn_decisions.csv"]).lines
    mine = [line for line in lines if line.observer == "resnet50"]
    by_shape = sum(line.decision == line.shape for line in mine)
    by_texture = sum(line.decision == line.texture != line.shape for line in mine)
    assert by_shape / (by_shape + by_texture) == pytest.approx(0.28141, abs=5e-6)


@pytest.fixture
def people(shared):
    """Return everyone's right answers by shape, [observer, picture], with their decisions."""
    read = read_observers([shared / "data" / "cue_conflict" / "human_decisions.csv"])
    by_name = {
        name: sorted(
            (line for line in read.lines if line.observer == name), key=lambda line: line.image
        )
        for name in read.names
    }
    right = [[line.decision == line.shape for line in lines] for lines in by_name.values()]
    return np.array(right), list(by_name.values())


def kappa_of(first, second):
    counts = [len(first), first.sum(), second.sum(), (first == second).sum()]
    return float(error_consistency(*torch.tensor(counts, dtype=torch.float64)))


@pytest.mark.data
def test_people_agree_in_their_errors_as_published(people):
    right, _ = people
    assert (right[0] == right[1]).mean() == pytest.approx(0.743750, abs=5e-7)
    assert kappa_of(right[0], right[1]) == pytest.approx(0.356786, abs=5e-7)
    pairs = [kappa_of(*pair) for pair in combinations(right, 2)]
    assert len(pairs) == 45
    assert np.mean(pairs) == pytest.approx(0.331052, abs=5e-7)


@pytest.mark.data
def test_people_decide_by_shape_as_published(people):
    def count(lines, cue):
        return sum(
            line.decision == getattr(line, cue) for line in lines if line.shape != line.texture
        )

    counts = np.array([[count(lines, cue) for cue in ("shape", "texture")] for lines in people[1]])
    assert counts.sum(0).tolist() == [9236, 398]
    bias = counts[:, 0] / counts.sum(1)
    assert bias.mean() == pytest.approx(0.957587, abs=5e-7)
    assert (bias.min(), bias.max()) == (
        pytest.approx(0.919090, abs=5e-7),
        pytest.approx(0.986603, abs=5e-7),
    )
    assert sum(line.decision is None for lines in people[1] for line in lines) == 131


@pytest.mark.data
def test_the_categories_are_those_of_the_pictures(shared):
    stored = json.loads((shared / "data" / "imagenet16_classes.json").read_text("utf-8"))
    assert {name: list(indices) for name, indices in ENTRY_LEVEL.items()} == stored


def test_a_run_on_other_pictures_leaves_the_bias_out(command, tmp_path):
    code, _, error = command("run", "--limit", 8, "--out", tmp_path)
    assert code == 0, error
    assert "shape_bias" not in {row.study for row in Run.load(tmp_path).rows}


def test_a_run_on_conflicting_cues_measures_the_bias_with_everything_else(command, tmp_path):
    words = ("run", "--data", "demo", "--split", "cue-conflict", "--limit", 8)
    code, _, error = command(*words, "--out", tmp_path)
    assert code == 0, error
    assert {row.study for row in Run.load(tmp_path).rows} >= {"shape_bias", "accuracy", "rank"}


def test_quantizing_shows_the_bias_before_and_after(command, tmp_path):
    words = ("quantize", "--bits", 8, "--data", "demo", "--split", "cue-conflict", "--limit", 12)
    code, _, error = command(*words, "--latency", "none", "--out", tmp_path)
    assert code == 0, error
    run = Run.load(tmp_path)
    subjects = {row.subject for row in run.rows if row.metric == "shape_bias" and not row.at}
    assert len(subjects) == 2
