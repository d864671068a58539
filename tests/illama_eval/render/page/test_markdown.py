from __future__ import annotations

import itertools
import re

from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
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
