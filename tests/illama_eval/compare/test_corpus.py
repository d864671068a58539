"""A corpus: which rows its headlines keep, what rounding costs, and what a list may say."""

from __future__ import annotations

import numpy as np
import pytest

from illama_eval.compare.corpus import (
    STEPS_PER_DEVIATION,
    CorpusList,
    keep_in_corpus,
    read_corpus,
    read_corpus_list,
    read_provenance,
    rounded,
)
from illama_eval.compare.model_table import read_model_table
from illama_eval.results import ResultError, Run


@pytest.fixture
def listed(write_run, tmp_path):
    """Return the list of a corpus of two models, and their runs."""
    runs = [
        write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name)
        for seed, (name, accuracy) in enumerate({"good": 0.9, "worse": 0.6}.items())
    ]
    path = tmp_path / "corpus" / "corpus.toml"
    path.parent.mkdir()
    for run in runs:
        keep_in_corpus(run, path)
    return path, runs


def refer(path, *names):
    path.write_text(f"references = {list(names)}\n" + path.read_text())


def test_rounding_replicates_moves_none_by_more_than_half_a_step():
    values = 18.9 + 0.07 * np.random.default_rng(0).standard_normal(200)
    found = rounded(values)
    assert np.abs(found - values).max() <= values.std() / STEPS_PER_DEVIATION / 2
    assert len(np.unique(found)) > 2 * STEPS_PER_DEVIATION
    assert found.std() == pytest.approx(values.std(), rel=0.01)
    assert (rounded(np.ones(200)) == 1).all()


def test_the_numbers_of_a_corpus_are_those_of_its_runs(listed):
    path, runs = listed
    table = read_corpus(path)
    assert [row.name for row in table.rows] == ["good", "worse"]
    names = [column.name for column in table.columns]
    assert names == ["accuracy.top1", "accuracy.nll", "calibration.ece", "rank.rank_per_image"]
    for row, run in zip(table.rows, map(Run.load, runs), strict=True):
        for name, cell in zip(names, row.cells, strict=True):
            measured = run.value(*name.split("."))
            assert (cell.row.value, cell.row.low) == (measured.value, measured.low)


def test_differences_are_those_of_the_runs_but_for_the_rounding(listed):
    path, runs = listed
    refer(path, "good")
    kept = read_corpus(path).rows[1]
    assert kept.reference == "good"
    columns = ["top1", "nll", "ece", "rank_per_image"]
    full = read_model_table(list(map(str, runs)), columns, references=["good"]).rows[1]
    for mine, theirs in zip(kept.cells, full.cells, strict=True):
        width = theirs.change.high - theirs.change.low
        assert mine.change.difference == theirs.change.difference
        assert mine.change.low == pytest.approx(theirs.change.low, abs=width / 20)
        assert mine.change.high == pytest.approx(theirs.change.high, abs=width / 20)


def test_a_headline_is_small_and_has_no_command(listed):
    path, runs = listed
    small, whole = (
        sum(each.stat().st_size for each in files)
        for files in ((path.parent / "good.json", path.parent / "good.npz"), runs[0].iterdir())
    )
    assert small < whole
    header = read_provenance(path)["good"]
    assert set(header) <= {
        "code",
        "versions",
        "device",
        "identity",
        "images_seen",
        "subjects",
        "metrics",
    }


def test_a_run_that_is_added_again_replaces_its_numbers_and_keeps_its_name(
    listed, write_run, tmp_path
):
    path, _ = listed
    path.write_text(path.read_text().replace('"good" =', '"The good one" ='))
    again = write_run(tmp_path / "new" / "good", accuracy=0.5, subject="good")
    keep_in_corpus(again, path)
    table = read_corpus(path)
    assert [row.name for row in table.rows] == ["The good one", "worse"]
    assert table.rows[0].cells[0].row.value == Run.load(again).value("accuracy", "top1").value


def test_a_line_may_name_several_seeds_and_a_run_directory(listed, write_run, tmp_path):
    path, _ = listed
    write_run(path.parent / "whole", accuracy=0.7, seed=7, subject="whole")
    models = '[models]\nseeds = "good.json,worse.json"\nwhole = "whole"\n'
    path.write_text(models, encoding="utf-8-sig")
    seeds, whole = read_corpus(path).rows
    assert (seeds.seeds, whole.seeds, whole.name) == (2, 1, "whole")


def test_a_list_that_is_not_there_is_begun_and_columns_may_be_named(write_run, tmp_path):
    path = tmp_path / "corpus.toml"
    path.write_text('columns = ["top1"]\n')
    keep_in_corpus(write_run(tmp_path / "it"), path)
    assert path.read_text() == 'columns = ["top1"]\n[models]\n"it" = "it.json"\n'
    assert read_corpus_list(path) == CorpusList(
        models={"it": "it.json"}, columns=("top1",), chosen=True
    )
    assert [len(row.cells) for row in read_corpus(path).rows] == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models", "not a list of a corpus"),
        ("[models]\na = 1\n", "under \\[models\\] lines NAME = RUN"),
        ("colums = []\n", "it has 'colums'"),
        ("columns = [1]\n", "columns = \\[...\\]"),
        ("", "lists no model; add runs"),
        ('[models]\na = "gone"\n', "cannot be read"),
        ('references = ["b"]\n[models]\ngood = "good.json"\n', "no model 'b' to compare with"),
    ],
)
def test_lists_that_make_no_sense_are_refused_in_one_line(listed, text, said):
    path, _ = listed
    path.write_text(text)
    with pytest.raises(ResultError, match=said) as refusal:
        read_corpus(path)
    assert "\n" not in str(refusal.value)


def test_a_run_of_no_column_or_of_several_models_is_refused(listed, write_run, tmp_path):
    path, runs = listed
    path.write_text('columns = ["shape_bias"]\n')
    with pytest.raises(ResultError, match="has none of the columns of the corpus"):
        keep_in_corpus(runs[0], path)
    with pytest.raises(ResultError, match="cannot be read"):
        keep_in_corpus(tmp_path / "gone", path)
