from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.document import Column, Section, Table
from illama_eval.render.page.html import render_page
from illama_eval.render.page.markdown import report_markdown


def test_hostile_names_are_text_in_the_markdown(hostile_run, write, stored_names):
    document = document_of(load_models([write(hostile_run(stored_names))]), [], {})
    text = report_markdown(document)
    for line in text.splitlines():
        if line.startswith("    "):
            continue  # a block of code
        assert not re.search(r"(?<!\\)<", line.replace("`", "")), line
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) > 2
    assert "\x1b" not in text
    widths = [len(re.split(r"(?<!\\)\|", line)) for line in _headline(text)]
    assert len(set(widths)) == 1


def _headline(text):
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    return list(itertools.takewhile(lambda line: line.startswith("|"), lines[start:]))


def test_page_and_markdown_tell_the_same_numbers(run_of, write):
    document = document_of(load_models([write(run_of())]), [], {})
    html, text = render_page(document), report_markdown(document)
    for row in document.headline.rows:
        for cell in row[2:4]:
            assert cell.text in html
            assert cell.text.strip() in text
    assert document.judgement.sentence in html.replace("&#39;", "'")


@pytest.mark.parametrize(("file", "named"), [("tables/a.csv", "tables/a.csv"), ("", "report.html")])
def test_a_folded_table_is_said_to_be_where_it_is(run_of, write, file, named):
    document = document_of(load_models([write(run_of())]), [], {})
    columns = [Column(label="a")]
    table = Table(key="a", caption="All", columns=columns, rows=[], total=7, file=file, long=True)
    section = Section(key="b", title="B", findings=[], pictures=[], tables=[table])
    text = report_markdown(replace(document, sections=[section]))
    assert f"All: 7 rows in `{named}`." in text
