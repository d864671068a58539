"""A comparison on the terminal: every change with its paired interval, and the flips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table

from illama_eval.compare.change import Change
from illama_eval.compare.comparison import Comparison
from illama_eval.render.format.changes import show_change, show_seeds
from illama_eval.render.format.escape import LONGEST_NAME, LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import EXPLAINED, study_label
from illama_eval.render.format.numbers import MISSING, show_images
from illama_eval.render.gate.words import flips_in_words, other_differences_in_words
from illama_eval.render.terminal.tables import add_row, fitting_table, plain_text

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


def show_comparison(comparison: Comparison, console: Console, *, everything: bool = False) -> None:
    """Print what changed, study by study, then flips, notes, and what intervals cover.

    Without `everything` the table is of each study's most informative numbers, and of those that
    differ clearly.
    """
    source = f"{sanitize(comparison.source, LONGEST_NAME)}, {show_images(comparison.images)}"
    console.print(plain_text(source, console, "bold"))
    for letter, name in zip("AB", comparison.subjects, strict=True):
        console.print(plain_text(f"{letter}  {sanitize(name, LONGEST_NOTE)}", console))
    compared = [change for change in comparison.changes if not change.problem]
    seeds = any(change.seeds_low is not None for change in compared)
    shown = compared if everything else list(filter(_is_telling, compared))
    if shown:
        console.print(_table(shown, console))
    if compared:
        console.print(plain_text(f"  {_count_clear(compared, len(shown))}", console))
    notes = [flips_in_words(comparison), *comparison.notes, other_differences_in_words(comparison)]
    notes += [
        f"{study_label(change.study)} {sanitize(change.metric)}: {change.reason}"
        for change in comparison.changes
        if change.problem and not change.at
    ]
    notes += [f"{_LEGEND}: p is at most 0.05. {_FAMILY}", _SEEDS if seeds else _COVERED]
    for note in filter(None, notes):
        console.print(plain_text(f"  {sanitize(note, LONGEST_NOTE)}", console, "dim"))
    console.print()


def _is_telling(change: Change) -> bool:
    known = EXPLAINED.get(change.study)
    return bool(change.finding) or known is None or change.metric in known.headline


def _count_clear(compared: Sequence[Change], shown: int) -> str:
    """Return how many numbers differ clearly, and how to see those that are left out."""
    clear = sum(bool(change.finding) for change in compared)
    hidden = len(compared) - shown
    more = f"; {hidden} others: --all" if hidden else ""
    return f"{clear} of {len(compared)} numbers differ clearly{more}."


def _table(changes: Sequence[Change], console: Console) -> Table:
    lines = [(change.study, _cells(change)) for change in changes]
    cells = [line for _, line in lines]
    table, kept = fitting_table(_COLUMNS, cells, console, wrapped={"metric"}, spare=("A", "B", "p"))
    for study in dict.fromkeys(study for study, _ in lines):
        add_row(table, [study_label(study)], console, "bold")
        for of, line in lines:
            if of == study:
                add_row(table, [line[index] for index in kept], console)
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
