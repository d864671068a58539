from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from illama_eval.render import write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.html import render_page
from illama_eval.render.paper import counterpart, read_published
from illama_eval.results import Row


def save(run, directory):
    """Write run.json into a new directory."""
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(run.to_json(), encoding="utf-8")
    return directory


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a run directory."""
    return lambda run: save(run, tmp_path / "run")


@pytest.fixture(scope="module")
def reported(tmp_path_factory, run_of):
    """Return a run directory with samples and its report."""
    directory = save(run_of(), tmp_path_factory.mktemp("reported") / "run")
    random = np.random.default_rng(0)
    np.savez(
        directory / "samples.npz",
        ids=np.array(["test/00017", "test/00018"]),
        images=random.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        attention=random.integers(0, 256, (2, 2, 4, 4), dtype=np.uint8),
        labels=np.array([3, 5]),
        predictions=np.array([3, 0]),
    )
    paths = write_report([directory])
    assert {path.name for path in paths} >= {"report.html", "report.md", "headline.tex"}
    return directory


@pytest.fixture(scope="module")
def page(reported, read_page):
    return read_page((reported / "report.html").read_text("utf-8"))


@pytest.fixture
def page_of(write, read_page):
    """Return a function that gives the tree of a run's page, drawn without figures."""

    def page(run, **options):
        document = document_of(load_models([write(run)]), [], {}, **options)
        return read_page(render_page(document))

    return page


def table(page, key):
    """Return a table's head and body as text, row by row."""
    return [
        [cell.text.strip() for cell in row.children if not isinstance(cell, str)]
        for row in page.one("table", id=key).all("tr")
    ]


def test_the_papers_numbers_belong_to_its_own_checkpoints_only(run_of, write):
    rows = read_published()
    assert all(0 < row.value <= 1 or row.unit != "fraction" for row in rows)
    assert all(re.fullmatch(r"(Table|Figure) \d+", row.table) for row in rows)
    lineup = load_models([write(run_of())])
    (model,) = lineup.models
    ours = Row(study="accuracy", metric="top1", value=0.751, images=50_000)
    assert counterpart(model, ours) is None
    named = replace(model, header={"subjects": [{"released": "illama-tiny-in1k-75.0"}]})
    assert counterpart(named, ours).shown == "75.0 %"
    assert counterpart(named, structs.replace(ours, images=30)) is None
    assert counterpart(named, structs.replace(ours, metric="top5")) is None


def test_the_papers_number_stands_beside_ours_where_it_is_the_same(run_of, page_of):
    run = run_of()
    rows = [structs.replace(row, images=50_000) for row in run.rows]
    header = {**run.header, "subjects": [{"released": "illama-tiny-in1k-75.0"}]}
    head, first, *_ = table(page_of(replace(run, rows=tuple(rows), header=header)), "headline")
    assert (head[-1], first[-1]) == ("the paper's", "75.0 % (Table 6)")
