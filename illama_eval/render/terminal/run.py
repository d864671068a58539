"""The headline of a run on the terminal: numbers for the whole source, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from illama_eval.render.format.escape import LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import (
    ARROWS,
    heading,
    metric_label,
    study_label,
    unit_label,
)
from illama_eval.render.format.numbers import MISSING, Shown, align, show_row
from illama_eval.render.format.verdicts import MARK, say_verdict
from illama_eval.render.select import direction, groups_in_words, studies_of, subjects_of
from illama_eval.render.sentences import as_sentence
from illama_eval.render.terminal.tables import add_row, fitting_table, plain_text
from illama_eval.results import Row, Run

_COLUMNS: Mapping[str, JustifyMethod] = {
    "metric": "left",
    "value": "right",
    "unit": "left",
    "95 % interval": "left",
    "images": "right",
}


def show(run: Run, console: Console) -> None:
    """Print the headline table of each subject, then the verdicts of the studies."""
    for subject in subjects_of(run):
        rows = [row for row in run.rows if row.subject == subject and not row.at]
        if rows:
            console.print(plain_text(heading(rows), console, "bold"))
            console.print(_headline_table(run, rows, console))
        marks = enumerate(_reasons(rows), start=1)
        notes = [
            (f"({n})", plain_text(sanitize(why, LONGEST_NOTE), console, "dim")) for n, why in marks
        ]
        if rows and (groups := groups_in_words(run)):
            notes.append(("", plain_text(sanitize(groups, LONGEST_NOTE), console, "dim")))
        notes += _verdicts(run, subject, console)
        if notes:
            console.print(_notes(notes, console))
        console.print()


def _headline_table(run: Run, rows: Sequence[Row], console: Console) -> Table:
    """Return the table of rows for the whole source, study by study, decimal points aligned."""
    shown = [show_row(row) for row in rows]
    numbers = list(
        zip(rows, shown, align([one.value for one in shown]), _intervals(shown), strict=True)
    )
    reasons = _reasons(rows)
    lines = [
        (
            _name(run, row),
            value,
            unit_label(one.unit),
            interval or _without(row, reasons),
            f"{row.images:,}",
        )
        for row, one, value, interval in numbers
    ]
    table, kept = fitting_table(_COLUMNS, lines, console, wrapped={"metric"}, spare=("images",))
    for study in studies_of(rows):
        add_row(table, [study_label(study)], console, "bold")
        for row, line in zip(rows, lines, strict=True):
            if row.study == study:
                add_row(table, [line[index] for index in kept], console)
    return table


def _name(run: Run, row: Row) -> str:
    return f"  {metric_label(row.metric)} {ARROWS[direction(run, row)]}".rstrip()


def _without(row: Row, reasons: Sequence[str]) -> str:
    """Return a dash, and the number of the note with the reason why there is no interval."""
    return f"{MISSING} ({reasons.index(row.reason) + 1})" if row.reason else MISSING


def _intervals(shown: Sequence[Shown]) -> list[str]:
    lows, highs = (align([getattr(one, end) for one in shown]) for end in ("low", "high"))
    width = max(map(len, lows))
    return [
        f"{low.rjust(width)} to {high}" if low else ""
        for low, high in zip(lows, highs, strict=True)
    ]


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Return why numbers or intervals are missing, each reason once."""
    return list(dict.fromkeys(row.reason for row in rows if row.low is None and row.reason))


def _verdicts(run: Run, subject: str, console: Console) -> Iterator[tuple[str, Text]]:
    """Yield what each verdict means and what decided it, marked if it deserves a look."""
    for verdict in run.verdicts:
        if verdict.subject == subject:
            said = say_verdict(verdict)
            at = ", ".join(
                f"{sanitize(key)} {sanitize(value)}" for key, value in verdict.at.items()
            )
            line = plain_text(as_sentence(said.text + (f" ({at})" if at else "")), console, "bold")
            why = sanitize(verdict.reason, LONGEST_NOTE)
            yield MARK if said.look else "", line.append_text(plain_text(f" {why}", console, "dim"))


def _notes(notes: Sequence[tuple[str, Text]], console: Console) -> Table:
    """Return (mark, sentence) as lines that wrap beside their marks."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for mark, sentence in notes:
        grid.add_row(plain_text(f"  {mark}", console), sentence)
    return grid
