"""A run in a few lines on the terminal: its headline numbers, and what they say in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich.console import Console, JustifyMethod

from illama_eval.render.attention_maps import maps_of
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import (
    ARROWS,
    EXPLAINED,
    heading,
    map_label,
    metric_label,
    unit_label,
)
from illama_eval.render.format.numbers import MISSING, show_number, show_row
from illama_eval.render.select import direction, headline, studies_measured, subjects_of
from illama_eval.render.terminal.tables import add_row, plain_table, plain_text
from illama_eval.results import Row, Run

MANY = 2
"""Studies up to which each shows all of its headline numbers; of more, the first alone."""
IN_WORDS = frozenset({"collapse"})
"""Studies that are a sentence, not a number, where there are many."""
SPOKEN = ("calibration", "class_token_isolation", "causality", "cue")
"""Verdicts that are said in words, in this order."""
_COLUMNS: Mapping[str, JustifyMethod] = {
    "": "left",
    "value": "right",
    "unit ": "left",
    "95 % interval": "left",
}
_LONGEST = 300


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
            for control, value in _controls(run, row):
                add_row(table, (f"    control: {control}", value, "", ""), console, "dim")
        console.print(table)
        sentence = "; ".join(_spoken(run, subject))
        if sentence:
            console.print(plain_text(f"  {sentence}", console))
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


def _controls(run: Run, row: Row) -> Iterator[tuple[str, str]]:
    """Yield the controls of a rank: the mean over layers and heads of the other maps."""
    if (row.study, row.metric) != ("rank", "rank_of_mean_map"):
        return
    for maps in maps_of(run):
        if maps.subject == row.subject and maps.kind != "used" and np.isfinite(maps.ranks).any():
            yield map_label(maps.kind), show_number(float(np.nanmean(maps.ranks)))


def _spoken(run: Run, subject: str) -> Iterator[str]:
    """Yield the verdicts that are said in words, as a sentence's parts."""
    for name in SPOKEN:
        for verdict in run.verdicts:
            if (verdict.subject, verdict.name) == (subject, name) and not verdict.at:
                said = sanitize(verdict.verdict, _LONGEST)
                yield f"class token {said}" if name == "class_token_isolation" else said
