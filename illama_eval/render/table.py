"""Tables of a run as files: the headline and one per study, as CSV and Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from illama_eval.render.markdown import to_markdown
from illama_eval.render.select import studies_of
from illama_eval.render.text import csv_cell
from illama_eval.result import Row, Run

_LONGEST_NAME = 48
_FIELDS = ("subject", "source", "study", "metric", "value", "low", "high", "unit", "images")


def write_tables(run: Run, directory: Path) -> list[Path]:
    """Write the headline and one table per study, each as CSV and Markdown; return the paths.

    CSV holds every row with full digits and fractions; Markdown is for reading.
    """
    directory.mkdir(parents=True, exist_ok=True)
    studies = studies_of(run.rows)
    tables = [[row for row in run.rows if not row.at]]
    tables += [[row for row in run.rows if row.study == study] for study in studies]
    paths = []
    for stem, rows in zip(_file_stems(["headline", *studies]), tables, strict=True):
        texts = {".csv": to_csv(rows), ".md": to_markdown(run, rows)}
        for suffix, text in texts.items():
            path = directory / f"{stem}{suffix}"
            path.write_text(text, encoding="utf-8", newline="")
            paths.append(path)
    return paths


def to_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV: a column per field and per key of `at`; fractions, full digits."""
    places = list(dict.fromkeys(key for row in rows for key in row.at))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIELDS, *map(csv_cell, places), "reason"])
    for row in rows:
        cells = [getattr(row, field) for field in _FIELDS]
        cells += [row.at.get(key) for key in places]
        writer.writerow([csv_cell(cell) for cell in [*cells, row.reason]])
    return text.getvalue()


def _file_stems(names: Iterable[str]) -> list[str]:
    """Return a safe file name for each table, no two alike."""
    stems: list[str] = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9_-]", "", name)[:_LONGEST_NAME] or "table"
        stems.append(f"{stem}-{len(stems)}" if stem in stems else stem)
    return stems
