"""A run in a few lines on the terminal: its headline numbers, and what they say in words.

Several models are one table of a line each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table

from illama_eval.render.format.glossary import (
    ARROWS,
    EXPLAINED,
    heading,
    map_label,
    metric_label,
    unit_label,
)
from illama_eval.render.format.numbers import align, show_images, show_row
from illama_eval.render.format.verdicts import MARK, Said
from illama_eval.render.models import NAMED
from illama_eval.render.select import direction, headline, rows_at, studies_measured, subjects_of
from illama_eval.render.sentences import say_study, say_verdicts
from illama_eval.render.terminal.models import Line, labels_of, models_table, say_by_model, title_of
from illama_eval.render.terminal.tables import add_row, plain_table, plain_text
from illama_eval.results import Row, Run

MANY = 2
"""Studies up to which each shows all of its headline numbers; of more, the first alone."""
IN_WORDS = frozenset({"collapse", "causality", "anytime", "lens"})
"""Studies that are a sentence, not a number, where there are many."""
WITHOUT = "no interval"
_COLUMNS: Mapping[str, JustifyMethod] = {
    "": "left",
    "value": "right",
    "unit ": "left",
    "95 % interval": "left",
}


def show_summary(run: Run, console: Console) -> None:
    """Print the headline numbers with intervals, the rank's controls, and sentences."""
    studies = studies_measured(run)
    found = {subject: list(_lines(run, subject, studies)) for subject in subjects_of(run)}
    found = {subject: lines for subject, lines in found.items() if lines}
    if len(found) > 1:
        console.print(plain_text(title_of(run, found), console, "bold"))
        console.print(models_table(run, found, console))
    for lines in found.values() if len(found) == 1 else ():
        rows = [line.row for line in lines]
        title = f"{heading(rows)}: {show_images(rows[0].images)}"
        console.print(plain_text(title, console, "bold"))
        console.print(_table(lines, console))
    said = [
        (subject, each)
        for subject in found
        for each in _sentences(run, subject, studies, many=len(found) > NAMED)
    ]
    _show_sentences(say_by_model(said, labels_of(run, found)), console)
    console.print()


def _table(lines: Sequence[Line], console: Console) -> Table:
    """Return a line for each number of one model, decimal points below each other."""
    shown = [show_row(line.row) for line in lines]
    table = plain_table(_COLUMNS, console, wrapped={""})
    table.show_header = False
    for line, each, value in zip(lines, shown, align([one.value for one in shown]), strict=True):
        unit = "" if each.unit == "index" else unit_label(each.unit)
        interval = each.interval if each.low else WITHOUT if line.row.reason else ""
        style = "dim" if line.control else ""
        name = f"    {line.label}" if line.control else f"  {line.label}"
        add_row(table, (name, value, unit, interval), console, style)
    return table


def _lines(run: Run, subject: str, studies: Sequence[str]) -> Iterator[Line]:
    """Yield the headline numbers of a model, below a rank its controls."""
    for row in _rows(run, subject, studies):
        yield Line(
            row=row, label=f"{metric_label(row.metric)} {ARROWS[direction(run, row)]}".rstrip()
        )
        for control in _controls(run, row):
            name = map_label(str(control.at["map"]))
            yield Line(row=control, label=f"control: {name}", control=True)


def _rows(run: Run, subject: str, studies: Sequence[str]) -> Iterator[Row]:
    """Yield the headline rows of a subject: of many studies the most informative one each."""
    for study in studies:
        known = EXPLAINED.get(study)
        found = [
            row
            for metric in (known.headline if known else ())
            if (row := headline(run, study, metric, subject)) is not None
        ]
        if not found:
            rows = (row for row in run.rows if (row.study, row.subject) == (study, subject))
            found = [row for row in rows if not row.at]
        if len(studies) <= MANY:
            yield from found
        elif study not in IN_WORDS:
            yield from found[:1]


def _controls(run: Run, row: Row) -> Sequence[Row]:
    """Return the controls of a rank: that of the other maps, by the same definition."""
    if (row.study, row.metric) != ("rank", "rank_of_mean_map"):
        return ()
    return rows_at(run, row.study, row.metric, row.subject, ("map",))


def _sentences(run: Run, subject: str, studies: Sequence[str], *, many: bool) -> Iterator[Said]:
    """Yield what the verdicts mean; of a study that is no number here, with its number.

    Of many models the verdicts alone, which several of them share.
    """
    for study in studies:
        words = len(studies) > MANY and study in IN_WORDS and not many
        said = (say_study if words else say_verdicts)(run, subject, study)
        if said is not None:
            yield said


def _show_sentences(said: Sequence[Said], console: Console) -> None:
    """Print a line each, what deserves a look first and marked."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True, min_width=1)
    grid.add_column(overflow="fold")
    for each in sorted(said, key=lambda one: not one.look):
        style = "bold" if each.look else ""
        add_row(grid, (MARK if each.look else "", each.text), console, style)
    if said:
        console.print(grid)
