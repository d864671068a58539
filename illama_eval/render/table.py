"""Tables of a run as files: the headline and one per study, as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path

from msgspec.json import encode

from illama_eval.render.blocks import parts_of
from illama_eval.render.latex import to_latex
from illama_eval.render.markdown import to_markdown
from illama_eval.render.select import studies_measured
from illama_eval.render.text import csv_cell
from illama_eval.render.words import anchor
from illama_eval.result import Row, Run

_FIELDS = ("subject", "source", "study", "metric", "value", "low", "high", "unit", "images")
_NUMBERS = frozenset({"value", "low", "high", "images"})


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
        parts = parts_of(run, rows)
        texts = {".csv": to_csv(rows), ".md": to_markdown(parts), ".tex": to_latex(parts)}
        for suffix, text in texts.items():
            path = directory / f"{stem}{suffix}"
            path.write_text(text, encoding="utf-8", newline="")
            paths.append(path)
    return paths


def to_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV: a column per field and per key of `at`; fractions, full digits."""
    shown = _Cells()
    columns = {name: list(map(attrgetter(name), rows)) for name in (*_FIELDS, "at", "reason")}
    ats = columns.pop("at")
    places = list(dict.fromkeys(chain.from_iterable(ats)))
    reasons = map(shown.__getitem__, columns.pop("reason"))
    texts = [
        _digits(column) if name in _NUMBERS else map(shown.__getitem__, column)
        for name, column in columns.items()
    ]
    texts += [[shown[at.get(key)] for at in ats] for key in places]
    head = ",".join(map(shown.__getitem__, (*_FIELDS, *places, "reason")))
    return "\n".join((head, *map(",".join, zip(*texts, reasons, strict=True)), ""))


def _digits(numbers: Sequence[float | None]) -> Iterable[str]:
    """Return numbers with all their digits as JSON writes them, None as empty."""
    texts = encode(numbers).decode().strip("[]").split(",") if numbers else []
    return ("" if text == "null" else text for text in texts) if None in numbers else texts


class _Cells(dict[object, str]):
    """What stands in CSV for a name, a place or a reason, which repeat from row to row."""

    def __missing__(self, value: object) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow((csv_cell(value), ""))
        self[value] = text.getvalue().removesuffix(",")
        return self[value]


def _file_stems(names: Iterable[str]) -> list[str]:
    """Return a safe file name for each table, no two alike."""
    stems: list[str] = []
    for name in names:
        stem = anchor(name)
        stems.append(f"{stem}-{len(stems)}" if stem in stems else stem)
    return stems
