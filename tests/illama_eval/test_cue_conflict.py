from __future__ import annotations

import csv
import json

import pytest

from illama_eval.cue_conflict import (
    ENTRY_LEVEL,
    CueConflictError,
    choose_categories,
    read_observers,
)

THREE = tuple((name, (index,)) for index, name in enumerate("abc"))


COLUMNS = ("subject", "shape", "texture", "decision", "image")


def test_the_entry_level_categories_hold_207_indices_once_each():
    indices = [index for each in ENTRY_LEVEL.values() for index in each]
    assert (len(ENTRY_LEVEL), len(indices), len(set(indices))) == (16, 207, 207)


def test_a_table_of_categories_is_checked_against_head_and_pictures(tmp_path):
    table = tmp_path / "table.json"
    for content, words in (
        ("[]", "expected a JSON object"),
        ("{", "not readable as JSON"),
        ('{"a": [0]}', "categories of the images are not among them .*'b'"),
        ('{"a": [0], "b": [5]}', "index 5 is outside the head of 5 classes"),
        ('{"a": [0], "b": [0]}', "index 0 is listed twice"),
    ):
        table.write_text(content, encoding="utf-8")
        with pytest.raises(CueConflictError, match=words):
            choose_categories(["a", "b"], 5, table=table)
    table.write_text('{"c": [4], "b": [1, 2], "a": [0]}', encoding="utf-8-sig")
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


def test_a_table_with_a_byte_order_mark_is_read(tmp_path):
    path = write_decisions(tmp_path / "marked.csv", [["x", "a", "b", "a", "a1-b1"]])
    path.write_text(path.read_text("utf-8"), encoding="utf-8-sig")
    assert read_observers([path]).names == ["x"]


@pytest.mark.parametrize(
    ("lines", "columns", "words"),
    [
        ([["x", "a", "b", "c", "a1-b1"]], COLUMNS, "line 2: decision 'c' is none of its 2"),
        ([["x", "a", "b", "a", "a1-b1"]] * 2, COLUMNS, "x decides twice on a1-b1"),
        ([["a", "b", "a", "a1-b1"]], COLUMNS[1:], "no column subject or model"),
        ([["x", "a", "b", "a"]], COLUMNS[:4], "no column image"),
        ([], COLUMNS, "has no decisions"),
    ],
)
def test_unfit_tables_of_decisions_are_refused(tmp_path, lines, columns, words):
    path = write_decisions(tmp_path / "decisions.csv", lines, columns)
    with pytest.raises(CueConflictError, match=words):
        read_observers([path])


@pytest.mark.data
def test_kept_agreeing_pictures_would_raise_the_bias_of_resnet50(shared):
    lines = read_observers([shared / "data" / "cue_conflict" / "cnn_decisions.csv"]).lines
    mine = [line for line in lines if line.observer == "resnet50"]
    by_shape = sum(line.decision == line.shape for line in mine)
    by_texture = sum(line.decision == line.texture != line.shape for line in mine)
    assert by_shape / (by_shape + by_texture) == pytest.approx(0.28141, abs=5e-6)


@pytest.mark.data
def test_the_categories_are_those_of_the_pictures(shared):
    stored = json.loads((shared / "data" / "imagenet16_classes.json").read_text("utf-8"))
    assert {name: list(indices) for name, indices in ENTRY_LEVEL.items()} == stored
