from __future__ import annotations

from dataclasses import replace

import pytest

from illama_eval.render.gate.github_summary import LARGEST, append_summary, to_summary
from illama_eval.render.gate.junit import write_junit
from illama_eval.results import ResultError


def test_changed_rows_come_first_and_the_rest_is_folded(worse):
    text = to_summary(worse)
    upper, lower = text.split("<details>")
    assert "▼ worse" in upper
    assert "▼ worse" not in lower
    assert "same within margin" not in upper
    assert (
        lower.index("= same") < lower.index("\N{MIDDLE DOT} not gated") < lower.index("</details>")
    )
    assert text.startswith("### Regression")


def test_a_summary_is_cut_between_rows_and_says_so(rows_of, worse):
    many = replace(worse, judged=worse.judged * 300)
    text = to_summary(many)
    assert 0.9 * LARGEST < len(text.encode()) <= LARGEST
    rows = rows_of(text)
    assert len({len(row) for row in rows}) == 1
    assert "rows more" in next(row for row in rows if row[0] == "…")[1]
    assert text.count("<details>") == text.count("</details>") == 1
    crowd = replace(worse, comparisons=worse.comparisons * 40, judged=worse.judged)
    assert len(to_summary(crowd).encode()) <= LARGEST
    assert "subjects more" in to_summary(crowd)


def test_a_summary_is_appended(worse, tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before\n", encoding="utf-8")
    append_summary(worse, path)
    append_summary(worse, path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n\n### Regression")
    assert text.count("### Regression") == 2
    with pytest.raises(ResultError, match="is GITHUB_STEP_SUMMARY set"):
        append_summary(worse, tmp_path)
    with pytest.raises(ResultError, match="cannot be written"):
        append_summary(worse, tmp_path / "no" / "summary.md")
    with pytest.raises(ResultError, match="cannot be written"):
        write_junit(worse, tmp_path / "no" / "junit.xml")
