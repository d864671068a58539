"""The gate's result on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table

from illama_eval.compare.gate import GateResult, MetricVerdict
from illama_eval.render.format.changes import show_change
from illama_eval.render.format.escape import LONGEST_NAME, LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import metric_label
from illama_eval.render.gate.words import by_outcome, notes_on, sentence, state_label
from illama_eval.render.terminal.tables import add_row, fitting_table, plain_text

_COLUMNS: Mapping[str, JustifyMethod] = {
    "metric": "left",
    "baseline": "right",
    "here": "right",
    "change": "right",
    "95 % interval": "left",
    "verdict": "left",
}


def show_verdicts(result: GateResult, console: Console) -> None:
    """Print the sentence, a table of the gated metrics, and notes."""
    console.print(plain_text(sentence(result), console, "bold"))
    for comparison in result.comparisons:
        mine = result.of("pass", "warn", "fail", "error")
        mine = by_outcome([each for each in mine if each.subject == comparison.subjects[1]])
        if mine:
            before, after = (sanitize(name, LONGEST_NAME) for name in comparison.subjects)
            console.print(plain_text(f"{after} against {before}", console))
            console.print(_table(mine, console))
        for note in notes_on(comparison, mine):
            console.print(plain_text(f"  {sanitize(note, 2 * LONGEST_NOTE)}", console, "dim"))


def _table(judged: Sequence[MetricVerdict], console: Console) -> Table:
    lines = []
    for each in judged:
        cells = [metric_label(each.metric), "", "", "", ""]
        if each.change:
            shown = show_change(each.change)
            cells = [shown.name, shown.baseline, shown.candidate, shown.difference, shown.interval]
        label = state_label(each).removesuffix(" within margin")
        lines.append([*cells, label])
    wrapped, spare = {"metric", "verdict"}, ("baseline", "here", "change")
    table, kept = fitting_table(_COLUMNS, lines, console, wrapped=wrapped, spare=spare)
    for line in lines:
        add_row(table, [line[index] for index in kept], console)
    return table
