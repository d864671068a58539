from __future__ import annotations

import itertools

import numpy as np
import pytest

from illama_eval.render import write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.html import render_page
from illama_eval.render.page.rank_heatmap import heat_maps


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


def test_one_layer_of_one_head_is_enough(run_of, page_of):
    page = page_of(run_of(layers=1, heads=1, tokens=5))
    assert [cell.text.strip() for cell in page.one("table", id="m0").all("td")[1:]] == ["2"]
    assert page.one("figure", class_="heats").attributes["data-tokens"] == "5"


def test_every_cell_of_the_heat_map_has_its_curve(run_of, write):
    lineup = load_models([write(run_of(layers=3, heads=2, tokens=65))])
    heat = heat_maps(lineup, "rank-layer-head-map")
    assert [panel.title for panel in heat.panels] == [
        "used map",
        "softmax, masked",
        "softmax, all keys",
    ]
    for panel in heat.panels:
        curves = heat.curves[panel.key]
        assert len(curves["y"]) == 6
        for cell, y in zip(itertools.chain(*panel.cells), curves["y"], strict=True):
            rank, x = int(cell.text), np.array(curves["x"])
            assert y[-1] == 1000
            assert np.interp(rank, x, y) >= 785
            assert np.interp(rank - 1, x, y) <= 805
    assert [tone for tone, _ in heat.legend] == [f"q{number}" for number in range(7)]
