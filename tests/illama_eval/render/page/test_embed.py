from __future__ import annotations

import json

import numpy as np
import pytest

from illama_eval.render import report, write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.embed import embed_data
from illama_eval.render.page.html import render_page


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


def test_data_cannot_end_its_element():
    text = embed_data({"</script><!--": ["&lt;", "]]>"]})
    assert not set(text) & set("<>&")
    assert json.loads(text) == {"</script><!--": ["&lt;", "]]>"]}


def test_a_page_too_large_is_made_lean_and_says_so(reported, tmp_path, monkeypatch):
    whole = (reported / "report.html").read_bytes()
    monkeypatch.setattr(report, "LARGEST", len(whole) - 1)
    write_report([reported], tmp_path)
    html = (tmp_path / "report.html").read_text("utf-8")
    assert len(html.encode()) < len(whole)
    assert "Left out, so that the page stays below 0 MB: sample images." in html
    assert "data:image" not in html


def test_a_page_becomes_leaner_step_by_step(run_of, write):
    lineup = load_models([write(run_of(layers=9, heads=9))])
    pages = [render_page(document) for document in report._smaller_versions(lineup, [], {}, None)]
    assert len(pages) == 4
    assert "Left out" not in pages[0]
    assert all("Left out" in page for page in pages[1:])
    assert "figures and most rows" in pages[-1]
    assert pages[-1].count("<tr") < pages[0].count("<tr") - 200
