"""A gate's verdict on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from illama_eval.compare.gate import GateResult, MetricVerdict
from illama_eval.render.format.changes import show_change
from illama_eval.render.format.escape import sanitize
from illama_eval.render.gate.words import (
    LONGEST_NAME,
    LONGEST_TEXT,
    as_text,
    by_outcome,
    name_of_metric,
    notes_on,
    sentence,
    state_label,
)


def show_verdicts(verdicts: GateResult, console: Console) -> None:
    """Print the sentence, a table of the gated metrics, and what else there is to say."""
    console.print(as_text(sentence(verdicts), console, "bold"))
    for comparison in verdicts.comparisons:
        mine = verdicts.of("pass", "warn", "fail", "error")
        mine = by_outcome([each for each in mine if each.subject == comparison.subjects[1]])
        if mine:
            before, after = (sanitize(name, LONGEST_NAME) for name in comparison.subjects)
            console.print(as_text(f"{after} against {before}", console))
            console.print(_table(mine, console))
        for note in notes_on(comparison, mine):
            console.print(as_text(f"  {sanitize(note, 2 * LONGEST_TEXT)}", console, "dim"))


def _table(judged: Sequence[MetricVerdict], console: Console) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("metric", overflow="fold")
    for name in ("baseline", "here", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for each in judged:
        cells = [name_of_metric(each), "", "", "", ""]
        if each.change:
            shown = show_change(each.change)
            cells = [shown.name, shown.baseline, shown.candidate, shown.difference, shown.interval]
        label = state_label(each).removesuffix(" within margin")
        table.add_row(*(as_text(cell, console) for cell in (*cells, label)))
    return table
