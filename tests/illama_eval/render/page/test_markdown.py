from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.html import render_page
from illama_eval.render.page.markdown import report_markdown
from illama_eval.results import Row, Verdict


def save(run, directory):
    """Write run.json into a new directory."""
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(run.to_json(), encoding="utf-8")
    return directory


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a run directory."""
    return lambda run: save(run, tmp_path / "run")


def hostile_run(run_of, names):
    """Return a run in which every text is hostile."""
    run = run_of(subjects=names[:2], layers=1, heads=1, tokens=5)
    odd = [
        Row(
            subject=names[0],
            study=name,
            metric=name,
            unit=name,
            reason=name,
            value=None,
            images=1,
            at=at,
        )
        for name in names
        for at in ({}, {name: name})
    ]
    words = [
        Verdict(
            subject=names[0],
            study="collapse",
            name=name,
            verdict=name,
            reason=name,
            at={name: name},
        )
        for name in names
    ]
    header = {
        "subjects": [
            {
                "name": names[0],
                "file": names[1],
                "dtype": names[2],
                "notes": names,
                "config": {name: name for name in names},
                "args": {"x": names},
            }
        ],
        "source": {"name": names[3], "split": names[4], "classes": names},
        "code": {"version": names[5], "commit": names[6]},
        "device": names[7],
    }
    return replace(
        run,
        header={**run.header, **header},
        rows=(*run.rows, *odd),
        verdicts=(*run.verdicts, *words),
    )


def test_hostile_names_are_text_in_the_markdown(run_of, write, stored_names):
    document = document_of(load_models([write(hostile_run(run_of, stored_names))]), [], {})
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
