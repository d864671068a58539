"""Models side by side: which rows, which intervals, and which number counts as the best."""

from __future__ import annotations

import numpy as np
import pytest

from illama_eval.compare.model_table import read_model_table
from illama_eval.results import ResultError, Run
from illama_eval.statistics import student_quantile


@pytest.fixture
def three(write_run, tmp_path):
    """Return the paths of a good model, a worse one, and one like the good one."""
    made = (("good", 0.9, 0), ("worse", 0.6, 1), ("alike", 0.9, 2))
    return {
        name: str(write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name))
        for name, accuracy, seed in made
    }


def cell_of(table, name, number=0):
    return next(row.cells[number] for row in table.rows if row.name == name)


def test_the_best_is_better_than_every_other_by_a_paired_difference(three):
    two = read_model_table([three["good"], three["worse"]], ["top1"])
    assert cell_of(two, "good").best
    assert not cell_of(two, "worse").best
    whole = read_model_table(list(three.values()), ["top1"])
    assert not any(row.cells[0].best for row in whole.rows)  # good and alike: no difference shown
    alone = read_model_table([three["good"]], ["top1"])
    assert not cell_of(alone, "good").best


def test_a_number_with_no_better_side_is_never_the_best(three):
    table = read_model_table([three["good"], three["worse"]], ["rank_per_image", "ece"])
    assert table.columns[0].better is None
    assert not any(row.cells[0].best for row in table.rows)


def test_values_and_intervals_are_those_of_the_rows(three):
    table = read_model_table([three["good"]], ["top1", "accuracy.nll"])
    run = Run.load(three["good"])
    for number, metric in enumerate(("top1", "nll")):
        row = run.value("accuracy", metric)
        found = cell_of(table, "good", number).row
        assert (found.value, found.low, found.high) == (row.value, row.low, row.high)


def test_seeds_have_their_mean_and_students_interval(write_run, tmp_path):
    paths = [
        str(write_run(tmp_path / f"s{seed}", accuracy=0.7 + seed / 50, seed=seed))
        for seed in range(3)
    ]
    values = [Run.load(path).value("accuracy", "top1").value for path in paths]
    (row,) = read_model_table([",".join(paths)], ["top1"]).rows
    half = student_quantile(2) * np.std(values, ddof=1) / 3**0.5
    assert row.seeds == 3
    assert row.cells[0].row.value == pytest.approx(np.mean(values), rel=1e-12)
    assert row.cells[0].row.high - np.mean(values) == pytest.approx(half, rel=1e-12)


def test_the_difference_to_the_reference_is_the_paired_one(three):
    table = read_model_table(list(three.values()), ["top1"], references=["good"])
    assert cell_of(table, "good").change is None
    assert [row.reference for row in table.rows] == ["", "good", "good"]
    change = cell_of(table, "worse").change
    assert change.difference < 0
    assert change.high < 0
    assert change.finding == "worse"


def test_each_model_is_compared_with_the_first_reference_of_its_images(write_run, tmp_path, three):
    def elsewhere(header):
        header["identity"]["source"].update(fingerprint="0")

    others = [
        str(write_run(tmp_path / name, seed=seed, subject=name, change=elsewhere))
        for seed, name in enumerate(("far", "farther"))
    ]
    table = read_model_table(
        [*three.values(), *others], ["top1"], references=["worse", "far", "good"]
    )
    compared = {row.name: row.reference for row in table.rows}
    assert compared == {"good": "worse", "worse": "", "alike": "worse", "far": "", "farther": "far"}
    assert not any(row.cells[0].best for row in table.rows)


def test_a_column_may_be_of_one_layer_or_map(three):
    table = read_model_table([three["good"]], ["rank_per_image", "rank.rank_per_image[layer=2]"])
    assert [column.name for column in table.columns][1] == "rank.rank_per_image[layer=2]"
    whole, second = (cell.row.value for cell in table.rows[0].cells)
    assert second == whole + 2


def test_models_of_other_images_have_no_best_and_no_difference(write_run, tmp_path, three):
    def elsewhere(header):
        header["identity"]["source"].update(fingerprint="0")

    other = write_run(tmp_path / "other", accuracy=0.3, subject="other", change=elsewhere)
    table = read_model_table([three["good"], str(other)], ["top1"], references=["good"])
    assert not table.same_images
    assert not any(row.cells[0].best for row in table.rows)
    assert cell_of(table, "other").change is None


def test_names_are_given_by_subject_or_by_run(three, write_run, tmp_path):
    again = str(write_run(tmp_path / "again", subject="good", seed=5))
    paths = [three["good"], three["worse"], again]
    table = read_model_table(paths, ["top1"], {"worse": "B", again: "A"})
    assert [row.name for row in table.rows] == ["good", "B", "A"]
    unnamed = read_model_table([three["good"], again], ["top1"])
    assert [row.name for row in unnamed.rows] == ["good", "good (again)"]


@pytest.mark.parametrize(
    ("columns", "names", "references", "said"),
    [
        (["ecee"], {}, (), "column ecee: in none of the runs; did you mean ece"),
        (["shape_bias"], {}, (), "column shape_bias: in none of the runs"),
        (["top1"], {"nobody": "x"}, (), "no model 'nobody' to rename"),
        (["rank.rank_per_image[map=none]"], {}, (), "in none of the runs"),
        (["top1"], {}, ("nobody",), "no model 'nobody' to compare with; there are good"),
    ],
)
def test_what_is_not_there_is_refused_by_its_name(three, columns, names, references, said):
    with pytest.raises(ResultError, match=said.replace("?", r"\?")):
        read_model_table([three["good"]], columns, names, references)


def test_the_same_run_twice_is_refused(three):
    with pytest.raises(ResultError, match="is in the table already"):
        read_model_table([three["good"]] * 3, ["top1"])
