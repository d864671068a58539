"""Runs on disk: equal text for equal runs, no value lost, nothing foreign read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from illama_eval.results import ResultError, Row, Run

HOSTILE = '</script><img onerror=x> "q" \\ \n\x1b[31m \N{SNOWMAN} =cmd'


REPORTS = Path(__file__).parents[3] / "reports"


def test_a_run_survives_json(make_run):
    run = make_run()
    assert Run.from_json(run.to_json()) == run


def test_an_empty_run_survives_json():
    run = Run(header={}, rows=())
    assert Run.from_json(run.to_json()) == run


@given(
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_number_and_any_name_survive_json(value, text, make_run):
    row = Row(subject=text, metric="m", value=value, images=1, at={text: text}, reason=text)
    run = make_run(rows=(row,), header={"source": {text: text}})
    assert Run.from_json(run.to_json()) == run


def test_equal_runs_are_equal_bytes_and_have_one_row_per_line(make_run):
    text = make_run().to_json()
    assert text == make_run().to_json()
    assert text == Run.from_json(text).to_json()
    assert sum('"metric"' in line for line in text.splitlines()) == 2
    assert all(line.count('"metric"') <= 1 for line in text.splitlines())


def test_the_text_is_plain_json(make_run):
    data = json.loads(make_run(header={"name": HOSTILE}).to_json())
    assert data["schema_version"] == 2
    assert data["header"]["name"] == HOSTILE
    assert "replicates" not in data["rows"][0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_never_written(value, make_run):
    run = make_run(rows=(Row(metric="ece", value=value, images=1),))
    with pytest.raises(ValueError, match="JSON compliant"):
        run.to_json()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema_version": 1}', '{"rows": [], "curves": []}'],
    ids=["empty", "cut off", "list", "null", "no header", "no version"],
)
def test_what_is_no_run_is_refused_in_one_line(text):
    with pytest.raises(ResultError, match="not a run") as caught:
        Run.from_json(text)
    assert "\n" not in str(caught.value)


def test_rows_with_fields_of_another_program_are_refused(make_run):
    text = make_run().to_json().replace('"images"', '"pictures"')
    with pytest.raises(ResultError, match="not a run"):
        Run.from_json(text)


def test_a_run_names_its_files_unless_it_is_of_the_first_schema(make_run):
    plain = json.loads(make_run().to_json())
    named = {**plain, "files": {"replicates": "0" * 64}}
    assert Run.from_json(json.dumps(named)).files == named["files"]
    assert Run.from_json(json.dumps({**named, "schema_version": 1})).files is None
    del plain["files"]
    with pytest.raises(ResultError, match="names no digests of its files"):
        Run.from_json(json.dumps(plain))


def test_another_schema_version_is_named(make_run):
    text = make_run().to_json().replace('"schema_version": 2', '"schema_version": 3')
    with pytest.raises(ResultError, match="schema version 3, this program reads 2"):
        Run.from_json(text)


def test_rows_that_leave_fields_out_are_read_as_those_that_do_not(make_run):
    run = make_run()
    lean = json.loads(run.to_json())
    del lean["rows"][0]["reason"]
    assert Run.from_json(json.dumps(lean)) == run


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value", "0.5"),
        ("low", True),
        ("high", 10**400),
        ("images", 1.5),
        ("unit", None),
        ("at", {"layer": 1.0}),
        ("at", []),
        ("subject", 3),
        ("value", []),
    ],
)
def test_a_field_of_another_type_is_refused_wherever_it_stands(field, value, make_run):
    found = json.loads(make_run().to_json())
    found["rows"][1][field] = value
    with pytest.raises(ResultError, match="not a run"):
        Run.from_json(json.dumps(found))


def test_subjects_are_renamed_in_rows_curves_and_verdicts(make_run):
    run, new = make_run(), make_run().renamed({"a": "b"})
    assert {each.subject for each in (*new.rows, *new.curves, *new.verdicts)} == {"b"}
    assert new.renamed({"b": "a"}) == run
    assert run.renamed({"a": "a"}) is run
    assert run == make_run()


def test_a_value_is_found_by_study_metric_and_place(make_run):
    run = make_run()
    assert run.value("accuracy", "top1").value == 0.5
    place = {"layer": 1, "head": 2, "map": "softmax"}
    assert run.value("rank", "rank_per_image", "a", **place).reason == "not finite"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("rank", "rank_per_image"), "has no such row; there are rows of layer, head, map"),
        (("accuracy", "top1", "another"), "has no such row; there are rows of the whole"),
        (("accuracy", "top2"), "accuracy has no metric top2; there are top1"),
        (("ranks", "rank_per_image"), "no study ranks; there are accuracy, rank"),
    ],
)
def test_a_value_that_is_not_there_is_told_from_those_that_are(make_run, asked, said):
    with pytest.raises(KeyError, match=said):
        make_run().value(*asked)


def test_of_several_subjects_one_is_to_be_named(make_run):
    first = make_run().rows[0]
    run = make_run(rows=(first, structs.replace(first, subject="b")))
    with pytest.raises(KeyError, match=r"2 rows for accuracy\.top1: subject is one of a, b"):
        run.value("accuracy", "top1")


def test_the_frame_has_a_column_per_field_and_per_key_of_the_place(make_run):
    frame = make_run().to_frame()
    assert frame.loc[0, "value"] == 0.5
    assert frame.loc[1, ["layer", "head", "map"]].tolist() == [1, 2, "softmax"]
    assert "at" not in frame


def test_a_missing_run_is_one_line(tmp_path):
    with pytest.raises(ResultError, match="cannot be read"):
        Run.load(tmp_path)


def test_a_run_in_a_file_of_its_own_has_its_arrays_beside_it(tmp_path, stored_run):
    run = stored_run(tmp_path)
    (tmp_path / "run.json").rename(tmp_path / "baseline.json")
    (tmp_path / "replicates.npz").rename(tmp_path / "baseline.npz")
    loaded = Run.load(tmp_path / "baseline.json")
    assert loaded == run
    assert np.array_equal(loaded.rows[0].replicates, run.rows[0].replicates)


@pytest.mark.parametrize(
    ("found", "put"),
    [
        ('"value": 0.5', '"value": "0.5"'),
        ('"value": 0.5', '"value": true'),
        ('"value": 0.5', '"value": NaN'),
        ('"value": 0.5', '"value": 1e999'),
        ('"images": 4', '"images": 4.5'),
        ('"metric": "top1"', '"metric": 7'),
        ('"at": {}', '"at": []'),
        ('"at": {}', '"at": {"layer": [1]}'),
        ('"header": {', '"header": [], "more": {'),
        ('"rows": [', '"rows": ['.ljust(100_000, "[")),
    ],
)
def test_a_run_edited_by_hand_into_nonsense_is_refused(tmp_path, found, put, make_run):
    text = make_run().to_json()
    assert found in text
    (tmp_path / "run.json").write_text(text.replace(found, put, 1), encoding="utf-8")
    with pytest.raises(ResultError, match="not a run") as caught:
        Run.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "why"), [(b"\xff", "no UTF-8 text"), (b"\\udcff", "surrogate"), (b"\x00", "malformed")]
)
def test_a_run_that_is_no_text_is_refused(tmp_path, name, why, make_run):
    text = make_run(header={"name": "here"}).to_json().encode()
    (tmp_path / "run.json").write_bytes(text.replace(b"here", name))
    with pytest.raises(ResultError, match=rf"run\.json: not a run \(.*{why}"):
        Run.load(tmp_path)


def test_notebooks_show_runs_and_rows_in_one_line_and_as_a_table():
    row = Row(subject="a<b", study="rank", metric="m", value=0.5, low=0.25, high=0.75, images=3)
    deep = structs.replace(
        row, at={"layer": 2}, value=None, low=None, high=None, unit="nats", reason="no"
    )
    run = Run(header={}, rows=(row, deep))
    assert repr(row) == "<Row a<b: rank.m = 0.5 (0.25 to 0.75)>"
    assert repr(deep) == "<Row a<b: rank.m[layer=2] = undefined nats>"
    assert repr(run) == "<Run of a<b on : 2 rows (rank)>"
    html = run._repr_html_()
    assert "<td>a&lt;b</td>" in html
    assert html.count("<tr>") == 2  # the head and the one row of the whole source


def test_a_frame_has_whole_layers_and_words_as_they_are():
    rows = tuple(
        Row(study="s", metric="m", value=0.5, images=3, at=at)
        for at in ({}, {"layer": 2, "class": "cat"}, {"layer": 3})
    )
    frame = Run(header={}, rows=rows).to_frame()
    assert str(frame["layer"].dtype) == "Int64"
    assert frame["layer"].tolist()[1:] == [2, 3]
    assert frame["class"].tolist()[1] == "cat"


def test_a_run_plots_its_figures_by_name():
    whole = Run.load(REPORTS / "examples" / "demo", replicates=False)
    rows = tuple(row for row in whole.rows if row.at.get("layer", 1) == 1)
    run = replace(whole, rows=rows, curves=whole.curves[:4])
    figure = run.plot("calibration_reliability")
    assert figure.axes
    assert run.plot("reliability").get_size_inches().tolist() == figure.get_size_inches().tolist()
    for unclear in ("nothing", "rank"):
        with pytest.raises(KeyError, match=f"no one figure '{unclear}'; this run has .*rank_by_"):
            run.plot(unclear)
