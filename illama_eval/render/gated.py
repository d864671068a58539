"""A page's first screen where a run was judged against a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from illama_eval.compare.gate import Judged, Verdicts
from illama_eval.render.document import Cell, Column, Judgement, Section, Table
from illama_eval.render.format.changes import show_change, show_margin
from illama_eval.render.format.escape import plain
from illama_eval.render.format.glossary import anchor, metric_label, study_title
from illama_eval.render.format.numbers import MISSING
from illama_eval.render.gate.words import flips_in_words, in_order, remark, sentence, state_label
from illama_eval.render.models import without_paths
from illama_eval.render.side_by_side import (
    PAIRED,
    change_cells,
    circumstances_table,
    flips_table,
    widest_of,
)

_JUDGEMENTS: Mapping[int, tuple[str, str, str]] = {
    0: ("\N{CHECK MARK}", "Gate passed", "better"),
    1: ("\N{BLACK DOWN-POINTING TRIANGLE}", "Gate failed", "worse"),
    3: ("\N{EMPTY SET}", "Not judged", "worse"),
}
"""Exit code -> symbol, word and tone."""
_TONES = {"worse": "worse", "missing": "worse", "not comparable": "worse", "better": "better"}
_LONGEST = 200
_COLUMNS = (
    Column(label="study"),
    Column(label="metric"),
    Column(label="baseline", number=True),
    Column(label="here", number=True),
    Column(label="difference, paired 95 % interval", number=True),
    Column(label="on its scale"),
    Column(label="loss that passes", number=True),
    Column(label="verdict"),
)
_NUMBERS = 6
"""Columns that do not judge."""


def judgement_of(verdicts: Verdicts) -> Judgement:
    """Return the verdict as the page's first sentence."""
    symbol, word, tone = _JUDGEMENTS[verdicts.exit_code]
    return Judgement(symbol=symbol, word=word, tone=tone, sentence=sentence(verdicts))


def gated_table(verdicts: Verdicts) -> Table:
    """Return the gated metrics as a table, the most telling verdicts first."""
    shown = in_order([each for each in verdicts.judged if each.outcome != "info"])
    widest = widest_of(each.change for each in shown)
    for each in shown:
        if each.change and each.margin:
            unit = each.change.unit
            widest[unit] = max(widest.get(unit, 0.0), 1.2 * each.margin)
    return Table(
        key="headline",
        caption=f"Gated numbers, against {plain(Path(verdicts.baseline).name, _LONGEST)}; the band "
        "in a mark is the loss or gain that passes",
        columns=_COLUMNS,
        rows=[_cells(each, widest) for each in shown],
        total=len(shown),
    )


def changes_section(verdicts: Verdicts) -> Section:
    """Return flips, further circumstances, and the metrics that are not gated."""
    tables: list[Table] = []
    findings: list[str] = []
    for number, comparison in enumerate(verdicts.comparisons):
        before, after = (plain(name, _LONGEST) for name in comparison.subjects)
        names = (f"{before} (baseline)", f"{after} (here)")
        tables += flips_table(f"flips-{number}", names, comparison)
        tables += circumstances_table(f"circumstances-{number}", names, comparison)
        paths = [Path(path) for path in (*comparison.baseline, *comparison.candidate)]
        words = filter(None, (flips_in_words(comparison), *comparison.notes))
        findings += [without_paths(each, paths) for each in words]
    tables += _further(verdicts)
    return Section(
        key="changes",
        title="What changed",
        findings=[f"{plain(words, _LONGEST)}." for words in findings],
        tables=tables,
        meaning=PAIRED,
        paper="No gate, and no intervals, are given there.",
    )


def _cells(judged: Judged, widest: Mapping[str, float]) -> list[Cell]:
    change = judged.change
    shown = show_change(change) if change else None
    margin = MISSING
    if change is not None and judged.margin is not None:
        margin = show_margin(change, judged.margin)
    return [
        Cell(text=study_title(judged.study), link=anchor(judged.study)),
        Cell(text=shown.name if shown else metric_label(judged.metric)),
        Cell(text=shown.baseline if shown else MISSING),
        Cell(text=shown.candidate if shown else MISSING),
        *change_cells(change, widest, judged.margin),
        Cell(text=margin),
        Cell(
            text=state_label(judged),
            note=plain(remark(judged), _LONGEST),
            tone=_TONES.get(judged.state, "neutral"),
        ),
    ]


def _further(verdicts: Verdicts) -> Sequence[Table]:
    """Return the numbers that are not gated and differ clearly."""
    rest = [each for each in verdicts.of("info") if each.change and each.change.finding]
    widest = widest_of(each.change for each in rest)
    if not rest:
        return []
    caption = "Numbers that are not gated and differ clearly"
    return [Table(key="further", caption=caption, columns=_COLUMNS[:_NUMBERS], total=len(rest),
                  rows=[_cells(each, widest)[:_NUMBERS] for each in rest])]  # fmt: skip
