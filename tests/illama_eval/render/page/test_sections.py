from __future__ import annotations

import re
from dataclasses import replace

import pytest
from msgspec import structs

from illama_eval.render.format.glossary import EXPLAINED
from illama_eval.render.page.sections import MOST_ROWS, share_rows
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


def test_every_table_gets_its_share_of_the_rows():
    assert share_rows([10, 20, 30], 1200) == 30
    assert share_rows([10, 900, 900], 1200) == 595
    assert share_rows([700, 700], 1200) == 600
    assert share_rows([], 1200) == 0
    assert share_rows([5, 5], -3) == 1


@pytest.mark.parametrize("study", ["accuracy", "calibration", "rank", "collapse"])
def test_a_study_alone_makes_a_page_that_names_the_others(run_of, page_of, study):
    run = run_of()
    rows = tuple(row for row in run.rows if row.study == study)
    page = page_of(replace(run, rows=rows, curves=(), verdicts=()))
    assert page.one("section", id=study)
    missing = page.one("section", id="not-measured").text
    measurable = [known for known in EXPLAINED.values() if known.command]
    assert missing.count("illama-eval") == len(measurable) - 1
    assert f"illama-eval {study.replace('calibration', 'calibrate')}" not in missing


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


def test_undefined_numbers_are_dashes_with_their_reason(table, run_of, page_of):
    run = run_of()
    rows = [
        structs.replace(row, value=None, low=None, high=None, reason="too few") for row in run.rows
    ]
    page = page_of(replace(run, rows=tuple(rows)))
    for line in table(page, "headline")[1:]:
        assert line[2:4] == ["\N{EM DASH}", "\N{EM DASH} too few"]
    cells = page.one("table", id="m0").all("td")[1:]
    assert {cell.text.strip() for cell in cells} == {"\N{EM DASH}"}
