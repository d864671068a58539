"""The page of a corpus: heads, cells and differences of a table made of plain rows."""

from __future__ import annotations

from dataclasses import replace

from illama_eval.compare.change import Change
from illama_eval.compare.model_table import Cell, Column, ModelRow, ModelTable
from illama_eval.render.page.corpus import corpus_columns, corpus_document
from illama_eval.render.page.html import render_page
from illama_eval.results import Row

TOP1 = Row(
    study="accuracy", metric="top1", value=0.5, low=0.4, high=0.6, unit="fraction", images=100
)
RANK = Row(
    study="rank",
    metric="rank_of_mean_map",
    at={"map": "masked"},
    value=20,
    unit="index",
    images=100,
)
BETTER = Change(
    study="accuracy",
    metric="top1",
    at={},
    unit="fraction",
    images=100,
    better="higher",
    tolerance=0.0,
    baseline=0.4,
    candidate=0.5,
    difference=0.1,
    low=0.05,
    high=0.15,
    p_holm=0.001,
)
HEADER = {
    "identity": {
        "subjects": {"0": {"weights_sha256": "0123456789abcdef"}},
        "source": {"fingerprint": "fedcba9876543210"},
    },
    "device": "cpu",
}


def table_of(*names, change=BETTER):
    cells = (Cell(row=TOP1, change=change), Cell(row=RANK))
    rows = [
        ModelRow(name=name, source="set", images=100, seeds=1, reference="first", cells=cells)
        for name in names
    ]
    columns = (
        Column(study="accuracy", metric="top1", better="higher"),
        Column(study="rank", metric="rank_of_mean_map", at=(("map", "masked"),)),
    )
    return ModelTable(columns=columns, rows=tuple(rows), same_images=True)


def test_heads_name_metric_map_unit_and_better_side():
    heads = corpus_columns(table_of("a"))
    assert [head.label for head in heads[:3]] == ["model", "images", "reference"]
    assert (heads[3].label, heads[3].unit) == ("top-1 accuracy ↑", "%")
    assert heads[4].label == "rank of mean map, softmax, masked"
    assert [head.number for head in heads] == [False] * 3 + [True] * 2


def test_a_cell_has_value_interval_and_the_difference_with_its_finding():
    document = corpus_document(table_of("a"), {"a": HEADER}, "illama-eval report --corpus c.toml")
    (line,) = document.headline.rows
    assert [cell.text for cell in line] == ["a", "set, 100", "first", "50", "20"]
    assert line[3].note == "40 to 60"
    assert "+10.0 (+5.0 to +15.0) better" in line[3].mark
    assert 'class="better"' in line[3].mark
    assert not line[4].mark


def test_a_difference_that_is_not_clear_says_nothing_and_has_no_colour():
    change = replace(BETTER, p_holm=0.5)
    document = corpus_document(table_of("a", change=change), {"a": HEADER}, "again")
    assert document.headline.rows[0][3].mark.endswith("(+5.0 to +15.0)</small>")
    assert "class" not in document.headline.rows[0][3].mark


def test_the_page_is_sortable_unfolded_and_escapes_names():
    name = "<img src=x onerror=alert(1)>"
    page = render_page(corpus_document(table_of(name), {name: HEADER}, "again"))
    assert "<img" not in page
    assert "&lt;img" in page
    head, _, rest = page.partition('data-for="models"')
    assert rest
    assert "<details" not in head.rpartition("<main")[2]
    assert "01234567" in rest
    assert "0123456789" not in rest
