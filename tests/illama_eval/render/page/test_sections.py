from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from illama_eval.render.page.sections import share_rows
from illama_eval.results import Verdict


def test_every_table_gets_its_share_of_the_rows():
    assert share_rows([10, 20, 30], 1200) == 30
    assert share_rows([10, 900, 900], 1200) == 595
    assert share_rows([700, 700], 1200) == 600
    assert share_rows([], 1200) == 0
    assert share_rows([5, 5], -3) == 1


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


def test_remarks_name_their_models_and_need_a_column_only_where_there_are_some(
    table, run_of, page_of
):
    run = run_of(subjects=("a", "b"))
    told = [
        structs.replace(row, reason=f"because of {row.subject}" if row.metric == "nll" else "")
        for row in run.rows
    ]
    page = page_of(replace(run, rows=tuple(told)))
    (line,) = [row for row in table(page, "accuracy-numbers") if row[0].startswith("NLL")]
    markers = ("\N{BLACK CIRCLE}", "\N{BLACK DIAMOND}")
    assert line[-1] == f"{markers[0]} because of a; {markers[1]} because of b"
    assert table(page, "calibration-numbers")[0][-1] == "images"


@pytest.mark.parametrize(("questions", "folded"), [(4, 0), (5, 1)])
def test_many_verdicts_of_one_study_are_folded_away(run_of, page_of, questions, folded):
    run = run_of(subjects=("a", "b"))
    verdicts = tuple(
        Verdict(subject=name, study="rank", name=f"kind_{n}", verdict="fine", reason="seen")
        for name in ("a", "b")
        for n in range(questions)
    )
    page = page_of(replace(run, verdicts=verdicts))
    assert len(page.all("table", id="rank-verdicts")) == 1
    holding = [each for each in page.all("details") if each.all("table", id="rank-verdicts")]
    assert len(holding) == folded
