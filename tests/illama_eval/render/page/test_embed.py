from __future__ import annotations

import json

from illama_eval.render import report, write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.embed import embed_data
from illama_eval.render.page.html import render_page


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
