"""The tables of a run as files: the headline and one per study, as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path

from msgspec.json import encode

from illama_eval.render.format.escape import csv_cell
from illama_eval.render.format.glossary import anchor
from illama_eval.render.select import studies_measured
from illama_eval.render.tables.text import table_groups, to_latex, to_markdown
from illama_eval.results import Row, Run

_NAMES = ("subject", "source", "study", "metric")
_NUMBERS = ("value", "low", "high")
_COUNTED = ("unit", "images")
_AT_ONCE = 5000
"""Rows written at once: few enough for the processor's cache."""


def write_tables(run: Run, directory: Path) -> list[Path]:
    """Write the headline and one table per study, as CSV, Markdown and LaTeX; return the paths.

    CSV holds every row with full digits and fractions; the others are for reading.
    """
    directory.mkdir(parents=True, exist_ok=True)
    studies = studies_measured(run)
    tables = [[row for row in run.rows if not row.at]]
    tables += [[row for row in run.rows if row.study == study] for study in studies]
    paths = []
    for stem, rows in zip(_file_stems(["headline", *studies]), tables, strict=True):
        groups = table_groups(run, rows)
        texts = {".csv": to_csv(rows), ".md": to_markdown(groups), ".tex": to_latex(groups)}
        for suffix, text in texts.items():
            path = directory / f"{stem}{suffix}"
            path.write_text(text, encoding="utf-8", newline="")
            paths.append(path)
    return paths


def to_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV: a column per field and per key of `at`; fractions, full digits."""
    shown = _Cells()
    keys = list(dict.fromkeys(chain.from_iterable(map(attrgetter("at"), rows))))
    lines = [shown[*_NAMES, *_NUMBERS, *_COUNTED, *keys, "reason"]]
    for first in range(0, len(rows), _AT_ONCE):
        lines += _lines(rows[first : first + _AT_ONCE], keys, shown)
    return "\n".join((*lines, ""))


def _lines(rows: Sequence[Row], keys: Sequence[str], shown: _Cells) -> Iterator[str]:
    ats = [row.at for row in rows]
    columns = [
        map(shown.__getitem__, map(attrgetter(*_NAMES), rows)),
        _digits(list(map(attrgetter(*_NUMBERS), rows))),
        map(shown.__getitem__, map(attrgetter(*_COUNTED), rows)),
        *([shown[at.get(key)] for at in ats] for key in keys),
        (shown[row.reason] for row in rows),
    ]
    return map(",".join, zip(*columns, strict=True))


def _digits(numbers: Sequence[tuple[float | None, ...]]) -> Sequence[str]:
    """Return cells of numbers with all their digits as JSON writes them, None as empty."""
    if not numbers:
        return []
    return encode(numbers).decode().replace("null", "").strip("[]").split("],[")


class _Cells(dict[object, str]):
    """The CSV text of names, keys and reasons, kept because they repeat from row to row.

    The text of a tuple is that of several cells side by side.
    """

    def __missing__(self, value: object) -> str:
        text = io.StringIO()
        cells = value if isinstance(value, tuple) else (value,)
        csv.writer(text, lineterminator="").writerow((*map(csv_cell, cells), ""))
        self[value] = text.getvalue().removesuffix(",")
        return self[value]


def _file_stems(names: Iterable[str]) -> list[str]:
    """Return a safe file name for each table, no two alike."""
    stems: list[str] = []
    for name in names:
        stem = anchor(name)
        stems.append(f"{stem}-{len(stems)}" if stem in stems else stem)
    return stems
