from __future__ import annotations

from illama_eval.results import Run


def test_a_run_without_rows_or_header_makes_a_page(page_of):
    page = page_of(Run(header={}, rows=()))
    assert "nothing measured" in page.one("h1").text
    assert page.one("p", role="status").text.startswith("\N{MIDDLE DOT} Result")
