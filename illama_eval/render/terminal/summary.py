"""A run in a few lines on the terminal: its headline numbers, and what they say in words."""

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
from illama_eval.render.format.numbers import MISSING, show_row
from illama_eval.render.format.verdicts import MARK, Said
from illama_eval.render.select import direction, headline, rows_at, studies_measured, subjects_of
from illama_eval.render.sentences import as_sentence, say_study, say_verdicts
from illama_eval.render.terminal.tables import add_row, plain_table, plain_text
from illama_eval.results import Row, Run

MANY = 2
"""Studies up to which each shows all of its headline numbers; of more, the first alone."""
IN_WORDS = frozenset({"collapse", "causality", "anytime", "lens"})
"""Studies that are a sentence, not a number, where there are many."""
_COLUMNS: Mapping[str, JustifyMethod] = {
    "": "left",
    "value": "right",
    "unit ": "left",
    "95 % interval": "left",
}


def show_summary(run: Run, console: Console) -> None:
    """Print each subject's headline numbers with intervals, the rank's controls, and a sentence."""
    studies = studies_measured(run)
    for subject in subjects_of(run):
        rows = list(_rows(run, subject, studies))
        if not rows:
            continue
        title = f"{heading(rows)}: {max(row.images for row in rows):,} images"
        console.print(plain_text(title, console, "bold"))
        table = plain_table(_COLUMNS, console, wrapped={""})
        table.show_header = False
        for row in rows:
            shown = show_row(row)
            interval = shown.interval if shown.low else MISSING
            name = f"  {metric_label(row.metric)} {ARROWS[direction(run, row)]}".rstrip()
            unit = "" if shown.unit == "index" else unit_label(shown.unit)
            add_row(table, (name, shown.value, unit, interval), console)
            for control in _controls(run, row):
                name, shown = map_label(str(control.at["map"])), show_row(control)
                interval = shown.interval if shown.low else ""
                add_row(table, (f"    control: {name}", shown.value, "", interval), console, "dim")
        console.print(table)
        _show_sentences(list(_sentences(run, subject, studies)), console)
        console.print()


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


def _sentences(run: Run, subject: str, studies: Sequence[str]) -> Iterator[Said]:
    """Yield what the verdicts mean; of a study that is no number here, with its number."""
    for study in studies:
        words = len(studies) > MANY and study in IN_WORDS
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
        add_row(grid, (MARK if each.look else "", as_sentence(each.text)), console, style)
    if said:
        console.print(grid)
