"""Tables of a run: the headline in the terminal, and every row as CSV and Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from illama_eval.render.markdown import to_markdown
from illama_eval.render.number import MISSING, Shown, align, show_row
from illama_eval.render.select import better, studies_of, subjects_of
from illama_eval.render.text import csv_cell, encodable, plain
from illama_eval.render.words import ARROWS, heading, metric_label, study_label
from illama_eval.result import Row, Run, Verdict

VERDICT_MARK = "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
_LONGEST_NAME = 48
_LONGEST_REASON = 200
_FIELDS = ("subject", "source", "study", "metric", "value", "low", "high", "unit", "images")


def show(run: Run, console: Console) -> None:
    """Print the headline table of each subject, then what the studies found in words."""
    for subject in subjects_of(run):
        rows = [row for row in run.rows if row.subject == subject and not row.at]
        if rows:
            _print(console, heading(rows), style="bold")
            reasons = _reasons(rows)
            console.print(_headline_table(run, rows, reasons, console.encoding))
            for reason, mark in reasons.items():
                _print(console, f"  {mark} {plain(reason, _LONGEST_REASON)}", style="dim")
        for verdict in run.verdicts:
            if verdict.subject == subject:
                _print(console, f"  {VERDICT_MARK} {_sentence(verdict)}")
        _print(console, "")


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


def _headline_table(run: Run, rows: Sequence[Row], reasons: dict[str, str], encoding: str) -> Table:
    """Return the rich table of rows for the whole source, decimal points aligned."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("study", style="dim", overflow="fold")
    table.add_column("metric", overflow="fold", ratio=None)
    for name in ("value", "unit", "95 % interval", "images"):
        left = name in {"unit", "95 % interval"}
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    shown = [show_row(row) for row in rows]
    values, intervals = align([one.value for one in shown]), _aligned_intervals(shown)
    before = ""
    for row, one, value, interval in zip(rows, shown, values, intervals, strict=True):
        name = f"{metric_label(row.metric)} {ARROWS[better(run, row)]}".rstrip()
        study = "" if row.study == before else study_label(row.study)
        note = interval or f"{MISSING} {reasons.get(row.reason, '')}".rstrip()
        cells = (study, name, value, plain(one.unit, 12), note, f"{row.images:,}")
        table.add_row(*(Text(encodable(cell, encoding)) for cell in cells))
        before = row.study
    return table


def _aligned_intervals(shown: Sequence[Shown]) -> list[str]:
    lows, highs = (align([getattr(one, end) for one in shown]) for end in ("low", "high"))
    width = max(map(len, lows))
    return [
        f"{low.rjust(width)} to {high}" if low else ""
        for low, high in zip(lows, highs, strict=True)
    ]


def _reasons(rows: Sequence[Row]) -> dict[str, str]:
    """Return the footnote mark of each reason for which a number or its interval is missing."""
    found = dict.fromkeys(row.reason for row in rows if row.low is None and row.reason)
    return {reason: f"({number})" for number, reason in enumerate(found, start=1)}


def _sentence(verdict: Verdict) -> str:
    place = ", ".join(f"{plain(key)} {plain(value)}" for key, value in verdict.at.items())
    name = f"{plain(verdict.name.replace('_', ' '))}" + (f" ({place})" if place else "")
    return f"{name}: {plain(verdict.verdict)}. {plain(verdict.reason)}"


def _file_stems(names: Iterable[str]) -> list[str]:
    """Return a safe file name for each table, no two alike."""
    stems: list[str] = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9_-]", "", name)[:_LONGEST_NAME] or "table"
        stems.append(f"{stem}-{len(stems)}" if stem in stems else stem)
    return stems


def _print(console: Console, line: str, style: str = "") -> None:
    console.print(Text(encodable(line, console.encoding), style=style))
