from __future__ import annotations

import re

from msgspec import structs

from illama_eval.render.models import load_models
from illama_eval.render.page.breakdowns import breakdowns_of, to_table
from illama_eval.render.page.sections import MOST_ROWS
from illama_eval.results import Row, Run


def test_rows_are_capped_and_the_page_says_so(table, run_of, page_of):
    page = page_of(run_of(layers=20, heads=16, tokens=33))
    rows = [row for body in page.all("tbody") for row in body.all("tr")]
    assert len(rows) <= MOST_ROWS
    text = " ".join(page.text.split())
    found = re.search(
        r"(\d+) of 960 rows are shown, those of lowest rank of mean map; "
        r"all are in tables/rank.csv",
        text,
    )
    shown = table(page, "rank-layer-head-map")[1:]
    assert len(shown) == int(found[1])
    cells = page.one("table", id="m0").all("td")
    assert len(cells) == 1 + 20 * 16
    assert len(page.one("script", id="curves").text) < 200_000


def test_an_unknown_study_is_shown_all_the_same(table, page_of):
    rows = [
        Row(
            subject="s",
            study="new_study",
            metric="m_n",
            value=0.5,
            low=0.4,
            high=0.6,
            images=9,
            at=at,
        )
        for at in ({}, {"class": "cat"}, {"class": "dog"})
    ]
    page = page_of(Run(header={}, rows=tuple(rows)))
    assert page.one("section", id="new_study").one("h2").text == "New study"
    lines = table(page, "new_study-class")
    assert lines == [["class", "m n (%)"], ["cat", "50 40 to 60"], ["dog", "50 40 to 60"]]


def test_numbers_are_ordered_as_numbers_and_words_as_they_come(run_of, write):
    rows = [
        Row(subject="s", study="accuracy", metric="top1", value=0.5, images=1, at=at)
        for at in ({"class": "b", "bin": n} for n in (10, 9, 2))
    ]
    rows.append(structs.replace(rows[0], at={"class": "a", "bin": 1}))
    models = load_models([write(Run(header={}, rows=tuple(rows)))])
    (found,) = breakdowns_of(models, "accuracy")
    assert found.key == "accuracy-class-bin"
    assert found.positions == [("b", "2"), ("b", "9"), ("b", "10"), ("a", "1")]


def test_a_key_that_rows_leave_out_has_its_default(run_of, write):
    models = load_models([write(run_of(layers=1, heads=2, tokens=5))])
    (found,) = (each for each in breakdowns_of(models, "rank") if "head" in each.keys)
    assert found.keys == ("layer", "head", "map")
    assert [position for position in found.positions if position[1] == "2"] == [
        ("1", "2", "used"),
        ("1", "2", "softmax"),
        ("1", "2", "masked"),
    ]


def test_the_worst_lines_are_kept_in_their_order(write):
    values = {"cat": 0.9, "dog": 0.1, "cow": None, "pig": 0.5}
    rows = [
        Row(subject="s", study="accuracy", metric="top1", value=value, images=1, at={"class": name})
        for name, value in values.items()
    ]
    models = load_models([write(Run(header={}, rows=tuple(rows)))])
    (found,) = breakdowns_of(models, "accuracy")
    table = to_table(models, found, 2, "tables/accuracy.csv")
    assert [line[0].text for line in table.rows] == ["dog", "pig"]
    assert (table.total, table.chosen) == (4, "those of lowest top-1 accuracy")
