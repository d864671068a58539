from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from illama_eval.render import render_directory, report, write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.html import render_page
from illama_eval.results import ResultError

EXAMPLES = Path(__file__).parents[3] / "reports" / "examples"


@pytest.mark.parametrize(
    "name", ["demo", "segmentation", pytest.param("cifar10", marks=pytest.mark.slow)]
)
def test_a_page_built_again_is_the_page_of_the_run(tmp_path, sketched, monkeypatch, name):
    run = tmp_path / name
    monkeypatch.setattr(report, "write_figures", lambda *_: [])  # the page is looked at
    shutil.copytree(EXAMPLES / name, run)
    render_directory(run)
    first = {file: (run / file).read_bytes() for file in ("report.html", "report.md")}
    write_report([run])
    assert first == {file: (run / file).read_bytes() for file in first}


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


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(ResultError, match=r"run\.json"):
        render_directory(tmp_path)
