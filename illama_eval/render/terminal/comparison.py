"""A comparison on the terminal: every change with its paired interval, and the flips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table

from illama_eval.compare.change import Change
from illama_eval.compare.comparison import Comparison
from illama_eval.render.format.changes import show_change, show_seeds
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import study_label
from illama_eval.render.format.numbers import MISSING
from illama_eval.render.gate.words import flips_in_words, other_differences_in_words
from illama_eval.render.terminal.tables import add_row, plain_table, plain_text

_LONGEST = 300
_LONGEST_NAME = 48
_COLUMNS: Mapping[str, JustifyMethod] = {
    "metric": "left",
    "A": "right",
    "B": "right",
    "B \N{MINUS SIGN} A": "right",
    "95 % interval": "left",
    "p": "right",
    "": "left",
}
_COVERED = "Intervals cover the choice of images, not training seeds."
_SEEDS = "Intervals over seeds (Welch) are below those over images."
_FAMILY = "p is adjusted (Holm) over the metrics that do not repeat another."
_MARKS = {
    "better": "\N{BLACK UP-POINTING TRIANGLE}",
    "worse": "\N{BLACK DOWN-POINTING TRIANGLE}",
    "differs": "\N{NOT EQUAL TO}",
    "": "",
}
_LEGEND = ", ".join(f"{mark} {finding}" for finding, mark in _MARKS.items() if finding)


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Print what changed, study by study, then flips, notes, and what intervals cover."""
    source = f"{sanitize(comparison.source, _LONGEST_NAME)}, {comparison.images:,} images"
    console.print(plain_text(source, console, "bold"))
    for letter, name in zip("AB", comparison.subjects, strict=True):
        console.print(plain_text(f"{letter}  {sanitize(name, _LONGEST)}", console))
    compared = [change for change in comparison.changes if not change.problem]
    seeds = any(change.seeds_low is not None for change in compared)
    if compared:
        console.print(_table(compared, console))
    notes = [flips_in_words(comparison), *comparison.notes, other_differences_in_words(comparison)]
    notes += [
        f"{study_label(change.study)} {sanitize(change.metric)}: {change.reason}"
        for change in comparison.changes
        if change.problem and not change.at
    ]
    notes += [f"{_LEGEND}: p is at most 0.05. {_FAMILY}", _SEEDS if seeds else _COVERED]
    for note in filter(None, notes):
        console.print(plain_text(f"  {sanitize(note, _LONGEST)}", console, "dim"))
    console.print()


def _table(changes: Sequence[Change], console: Console) -> Table:
    table = plain_table(_COLUMNS, console, wrapped={"metric", ""})
    for study in dict.fromkeys(change.study for change in changes):
        add_row(table, [study_label(study)], console, "bold")
        for change in changes:
            if change.study == study:
                add_row(table, _cells(change), console)
    return table


def _cells(change: Change) -> list[str]:
    shown, seeds = show_change(change), show_seeds(change)
    interval = shown.interval if seeds == MISSING else f"{shown.interval}\n{seeds}"
    return [
        f"  {shown.name}",
        shown.baseline,
        shown.candidate,
        shown.difference,
        interval,
        shown.p,
        _MARKS[change.finding],
    ]
