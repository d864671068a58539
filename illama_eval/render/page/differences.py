"""Differences between models, or between a run and its baseline: cells, tables and a section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from illama_eval.compare.change import Change
from illama_eval.compare.comparison import Comparison
from illama_eval.compare.gate import GateResult, MetricVerdict
from illama_eval.render.format.changes import show_change, show_margin
from illama_eval.render.format.escape import LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import (
    anchor,
    in_order,
    metric_label,
    place_label,
    study_title,
)
from illama_eval.render.format.numbers import MISSING
from illama_eval.render.gate.words import by_outcome, flips_in_words, remark, sentence, state_label
from illama_eval.render.models import MOST_TOLD_APART, ReportModel, ReportModels, without_paths
from illama_eval.render.page.document import (
    Cell,
    Column,
    Judgement,
    Section,
    Table,
    difference_mark,
)

_JUDGEMENTS: Mapping[int, tuple[str, str, str]] = {
    0: ("\N{CHECK MARK}", "Gate passed", "better"),
    1: ("\N{BLACK DOWN-POINTING TRIANGLE}", "Gate failed", "worse"),
    3: ("\N{EMPTY SET}", "Not judged", "worse"),
}
"""Exit code -> symbol, word and tone."""

_TONES = {"worse": "worse", "missing": "worse", "not comparable": "worse", "better": "better"}

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
"""Columns of a metric that is not gated: those before the margin."""

PAIR = 2
FEW = 3
"""Models up to which every difference is shown; of more, the clear ones, folded away."""
PAIRED = (
    "Both saw the same images, so their replicates are subtracted one by one: a paired interval is "
    "narrower than two intervals side by side suggest. It covers the choice of images, not "
    "training seeds."
)


def widest_of(changes: Iterable[Change | None]) -> dict[str, float]:
    """Return the largest distance from 0 by unit, so that every unit has one scale."""
    widest: dict[str, float] = {}
    for each in changes:
        if each is not None:
            ends = (each.low, each.high, each.difference)
            reach = max((abs(end) for end in ends if end is not None), default=0.0)
            widest[each.unit] = max(widest.get(each.unit, 0.0), reach)
    return widest


def change_cells(
    change: Change | None, widest: Mapping[str, float], margin: float | None = None
) -> list[Cell]:
    """Return a difference with its interval, and both as a mark with the margin as a band."""
    if change is None or change.difference is None:
        return [Cell(text=MISSING), Cell(text="")]
    shown = show_change(change)
    cell = Cell(text=shown.difference, note="" if shown.interval == MISSING else shown.interval)
    if change.low is None or change.high is None:
        return [cell, Cell(text="")]
    most = widest[change.unit] or 1.0
    low, value, high = (end / most for end in (change.low, change.difference, change.high))
    mark = difference_mark(low, value, high, (margin or 0.0) / most)
    return [cell, Cell(text="", mark=mark)]


def finding_cell(pair: tuple[ReportModel, ReportModel], change: Change | None) -> Cell:
    """Return which of two models is better, as far as that is clear."""
    if change is None:
        return Cell(text="no paired interval", tone="neutral")
    if not change.finding:
        return Cell(text="? not clear", tone="neutral")
    if change.calibrated:
        return Cell(text="? near the floor", tone="neutral")
    if change.finding == "differs":
        return Cell(text="differs", tone="neutral")
    return Cell(text=f"{pair[change.finding == 'better'].symbol} better", tone="better")


def changes_of(models: ReportModels) -> Section | None:
    """Return the differences of the first model and each other one; None if nothing is known."""
    if len(models) < PAIR:
        return None
    first, *others = models
    found = [(other, models.compared.get((first.name, other.name))) for other in others]
    known = [((first, other), each) for other, each in found if each and not each.mismatches]
    if not known:
        return None
    tables: list[Table] = []
    told: dict[str, list[ReportModel]] = {}
    for number, (pair, each) in enumerate(known):
        changes = _changes_table(f"changes-{number}", pair, each)
        told.setdefault(_in_words(each, changes), []).append(pair[1])
        shown = [changes] if changes.rows else []
        if len(models) > FEW:
            tables += [replace(table, long=True) for table in shown]
            continue
        names = (f"{pair[0].symbol} {pair[0].label}", f"{pair[1].symbol} {pair[1].label}")
        tables += flips_table(f"flips-{number}", names, each)
        tables += shown
        tables += other_differences_table(f"other-differences-{number}", names, each)
    return Section(
        key="changes",
        title="What differs",
        findings=[
            f"{models.say_names(who)}, beside {first.symbol}: {sanitize(words, LONGEST_NOTE)}."
            for words, who in told.items()
            if words
        ],
        tables=tables,
        folded=len(models) > MOST_TOLD_APART,
        meaning=PAIRED,
        paper="No intervals are given there.",
    )


def _in_words(comparison: Comparison, changes: Table) -> str:
    """Return flips, notes, and that no number differs clearly, as the end of a sentence."""
    flips = flips_in_words(comparison)
    paired = any(each.low is not None for each in comparison.changes if not each.at)
    same = "no number differs clearly" if paired and not changes.rows else ""
    return "; ".join(filter(None, (flips[:1].lower() + flips[1:], same, *comparison.notes)))


def flips_table(key: str, names: tuple[str, str], comparison: Comparison) -> Iterator[Table]:
    """Yield how many images both, one or none of the two get right, if that is known."""
    flips = comparison.flips
    if flips is None:
        return
    counts = {"right": (flips.both_right, flips.lost), "wrong": (flips.gained, flips.both_wrong)}
    columns = [Column(label=f"{names[1]} {word}", number=True) for word in counts]
    rows = [
        [Cell(text=f"{names[0]} {word}"), *(Cell(text=f"{count:,}") for count in line)]
        for word, line in counts.items()
    ]
    yield Table(
        key=key,
        caption="Images by who gets them right",
        rows=rows,
        total=len(rows),
        columns=[Column(label="images"), *columns],
    )


def other_differences_table(
    key: str, names: tuple[str, str], comparison: Comparison
) -> Iterator[Table]:
    """Yield the fields that may differ, and do."""
    rows = [
        [
            Cell(text=sanitize(text, LONGEST_NOTE))
            for text in (place_label(each.field), each.baseline, each.candidate)
        ]
        for each in comparison.other_differences
    ]
    if rows:
        columns = [Column(label=name) for name in ("field", *names)]
        yield Table(
            key=key,
            caption="What else differs between the runs",
            columns=columns,
            rows=rows,
            total=len(rows),
        )


def _changes_table(
    key: str, pair: tuple[ReportModel, ReportModel], comparison: Comparison
) -> Table:
    """Return all numbers for the whole source that differ clearly."""
    every = [each for each in comparison.changes if not each.at]
    order = in_order(list(dict.fromkeys(each.study for each in every)))
    clear = sorted((each for each in every if each.finding), key=lambda e: order.index(e.study))
    widest = widest_of(clear)
    first, second = pair
    lines = [
        [Cell(text=_name(each)), *change_cells(each, widest), finding_cell(pair, each)]
        for each in clear
    ]
    columns = [
        Column(label="number"),
        Column(label=f"{second.symbol} \N{MINUS SIGN} {first.symbol}", number=True),
        Column(label="difference"),
        Column(label="finding"),
    ]
    caption = (
        f"{second.symbol} {second.label} minus {first.symbol} {first.label}: "
        f"{len(clear)} of {len(every)} numbers differ clearly"
    )
    return Table(key=key, caption=caption, columns=columns, rows=lines, total=len(lines))


def _name(change: Change) -> str:
    unit = show_change(change).unit
    return f"{study_title(change.study)}: {metric_label(change.metric)}" + (
        f" ({unit})" if unit else ""
    )


def judgement_of(result: GateResult) -> Judgement:
    """Return the gate's verdict as the report's first sentence."""
    symbol, word, tone = _JUDGEMENTS[result.exit_code]
    said = sentence(result).removeprefix(f"{word}: ")
    return Judgement(symbol=symbol, word=word, tone=tone, sentence=said[:1].upper() + said[1:])


def gated_table(result: GateResult) -> Table:
    """Return the gated metrics as a table, losses first."""
    shown = by_outcome([each for each in result.judged if each.outcome != "info"])
    widest = widest_of(each.change for each in shown)
    for each in shown:
        if each.change and each.margin:
            unit = each.change.unit
            widest[unit] = max(widest.get(unit, 0.0), 1.2 * each.margin)
    baseline = sanitize(Path(result.baseline).name, LONGEST_NOTE)
    return Table(
        key="headline",
        caption=f"Gated numbers, against {baseline}; the band in a mark is the loss or gain that "
        "passes",
        columns=_COLUMNS,
        rows=[_cells(each, widest) for each in shown],
        total=len(shown),
    )


def changes_section(result: GateResult) -> Section:
    """Return flips, other differences, and the metrics that are not gated."""
    tables: list[Table] = []
    findings: list[str] = []
    for number, comparison in enumerate(result.comparisons):
        before, after = (sanitize(name, LONGEST_NOTE) for name in comparison.subjects)
        names = (f"{before} (baseline)", f"{after} (here)")
        tables += flips_table(f"flips-{number}", names, comparison)
        tables += other_differences_table(f"other-differences-{number}", names, comparison)
        paths = [Path(path) for path in (*comparison.baseline, *comparison.candidate)]
        words = filter(None, (flips_in_words(comparison), *comparison.notes))
        findings += [without_paths(each, paths) for each in words]
    tables += _further(result)
    return Section(
        key="changes",
        title="What changed",
        findings=[f"{sanitize(words, LONGEST_NOTE)}." for words in findings],
        tables=tables,
        meaning=PAIRED,
        paper="No gate, and no intervals, are given there.",
    )


def _cells(judged: MetricVerdict, widest: Mapping[str, float]) -> list[Cell]:
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
            note=sanitize(remark(judged), LONGEST_NOTE),
            tone=_TONES.get(judged.state, "neutral"),
        ),
    ]


def _further(result: GateResult) -> Sequence[Table]:
    """Return the numbers that are not gated and differ clearly."""
    rest = [each for each in result.of("info") if each.change and each.change.finding]
    widest = widest_of(each.change for each in rest)
    if not rest:
        return []
    caption = "Numbers that are not gated and differ clearly"
    return [
        Table(
            key="further",
            caption=caption,
            columns=_COLUMNS[:_NUMBERS],
            total=len(rest),
            rows=[_cells(each, widest)[:_NUMBERS] for each in rest],
        )
    ]
