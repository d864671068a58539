"""Write docs/studies.md: what every study measures, from its own source.

    python docs/make_studies.py

A test fails where the page and the source differ.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

from illama_eval.render.format.glossary import EXPLAINED, metric_label, study_title
from illama_eval.render.tables.text import pipe_table
from illama_eval.studies import STUDIES
from illama_eval.study import Study

PAGE = Path(__file__).with_name("studies.md")
FOLDER = Path(__file__).with_name("studies")
"""Pages that were written by hand, for studies that need more than their formulas."""
INTRODUCTION = """\
Formulas and sources of every study, as they stand in `illama_eval/studies/`. A study is one pass
over the images: `measure` turns a batch into sums, `summarize` turns the grand total into numbers.
Fractions are between 0 and 1 here and in the files, percent on pages. `tolerance` is the loss that
a gate lets pass unless its policy says otherwise.

Made by `python docs/make_studies.py`."""


def page() -> str:
    """Return the page as Markdown."""
    parts = ["# Studies", INTRODUCTION]
    for name, study in STUDIES.items():
        parts += _section(name, study)
    return "\n\n".join(parts) + "\n"


def _section(name: str, study: type[Study]) -> Iterator[str]:
    known = EXPLAINED.get(name)
    yield f"## {study_title(name)} (`{name}`)"
    yield from _paragraphs(inspect.getdoc(sys.modules[study.__module__]) or "")
    if (FOLDER / f"{name}.md").exists():
        yield f"How to run and read it, and what it costs: [{name}]({FOLDER.name}/{name}.md)."
    if known and known.paper:
        yield f"**In the paper.** {known.paper}"
    needed = ", ".join(sorted(study.requires)) or "images alone"
    yield f"Needs {needed}; looks at {', '.join(sorted(study.wants))}."
    yield pipe_table(
        ("metric", "name in files", "unit", "better", "tolerance"),
        (
            (metric_label(metric), metric, each.unit, each.better or "", f"{each.tolerance:g}")
            for metric, each in study.metrics.items()
        ),
    )
    parameters = list(_parameters(study))
    if parameters:
        yield pipe_table(("parameter", "default", "meaning"), parameters)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a module's docstring; one of entries `name: text` is a list."""
    first, *others = text.split("\n\n")
    yield first
    entry = re.compile(r"^(\w+): (.*(?:\n    .*)*)", re.MULTILINE)
    for each in others:
        listed = entry.sub(lambda found: f"- `{found[1]}`: {_flat(found[2])}", each)
        yield listed if entry.match(each) else each


def _flat(text: str) -> str:
    return " ".join(text.split())


def _parameters(study: type[Study]) -> Iterator[tuple[str, str, str]]:
    """Yield name, default and meaning of each parameter; the meaning stands below it."""
    source = inspect.getsource(study)
    for each in fields(study):  # type: ignore[arg-type]
        found = re.search(rf'\n    {each.name}: .*\n    """((?:.|\n)*?)"""', source)
        default = "" if each.default is MISSING else repr(each.default)
        yield each.name, default, _flat(found[1]) if found else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
