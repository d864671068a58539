"""Rows as plain tables, for Markdown and LaTeX: whole source first, then by place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from illama_eval.render.document import Cell, Table
from illama_eval.render.format.glossary import ARROWS, heading, metric_label, study_label
from illama_eval.render.format.numbers import show_row
from illama_eval.render.select import better, subjects_of
from illama_eval.results import Row, Run

MOST = 2000
"""Rows by place up to which they are set out for reading."""
_HEADLINE = ("study", "metric", "better", "value", "unit", "95 % interval", "images", "remark")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A table of text under a heading."""

    title: str
    """Empty where the heading before it covers it."""
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    right: frozenset[int]
    """Columns that are aligned to the right."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """All tables of one subject."""

    title: str
    blocks: Sequence[Block]


def parts_of(run: Run, rows: Sequence[Row]) -> list[Part]:
    """Return the rows as tables, subject by subject."""
    parts = []
    for subject in subjects_of(run):
        mine = [row for row in rows if row.subject == subject]
        if mine:
            parts.append(Part(title=heading(mine), blocks=list(_blocks_of(run, mine))))
    return parts


def block_of(table: Table) -> Block:
    """Return a table of the page as text, without the columns that hold nothing but marks."""
    kept = [
        (place, column)
        for place, column in enumerate(table.columns)
        if not table.rows or any(row[place].text for row in table.rows)
    ]
    return Block(
        title=table.caption,
        head=[f"{each.label} ({each.unit})" if each.unit else each.label for _, each in kept],
        lines=[[_in_words(row[place]) for place, _ in kept] for row in table.rows],
        right=frozenset(at for at, (_, each) in enumerate(kept) if each.number),
    )


def _in_words(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def _blocks_of(run: Run, rows: Sequence[Row]) -> Iterator[Block]:
    whole = [row for row in rows if not row.at]
    if whole:
        yield _headline(run, whole)
    by_place: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.at:
            by_place[row.study, *row.at].append(row)
    for (study, *keys), here in by_place.items():
        count = len(here)
        if count > MOST:
            yield Block(title=f"{study_label(study)}: {count:,} rows, in the CSV file",
                        head=keys, lines=[], right=frozenset())  # fmt: skip
        elif "head" in keys:
            yield from _by_head([key for key in keys if key != "head"], here)
        else:
            yield _pivot(study_label(study), keys, here, _metric)


def _headline(run: Run, rows: Sequence[Row]) -> Block:
    lines = []
    for row in rows:
        shown = show_row(row)
        lines.append((study_label(row.study), metric_label(row.metric), ARROWS[better(run, row)],
                      shown.value, shown.unit, shown.interval, f"{row.images:,}",
                      row.reason))  # fmt: skip
    return Block(title="", head=_HEADLINE, lines=lines, right=frozenset({3, 6}))


def _by_head(keys: Sequence[str], rows: Sequence[Row]) -> Iterator[Block]:
    """Yield a table for each metric: a line per layer, a column per head."""
    for metric in dict.fromkeys(row.metric for row in rows):
        mine = [row for row in rows if row.metric == metric]
        yield _pivot(_metric(mine[0]), keys, mine, _head)


def _pivot(
    title: str, keys: Sequence[str], rows: Sequence[Row], column_of: Callable[[Row], str]
) -> Block:
    """Return a table with a line per place; `column_of` tells in which column a row's value is."""
    columns = list(dict.fromkeys(column_of(row) for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        place = tuple(str(row.at[key]) for key in keys)
        lines.setdefault(place, {})[column_of(row)] = show_row(row).value
    cells = [[*place, *(found.get(name, "") for name in columns)] for place, found in lines.items()]
    numbers = frozenset(range(len(keys), len(keys) + len(columns)))
    return Block(title=title, head=[*keys, *columns], lines=cells, right=numbers)


def _metric(row: Row) -> str:
    unit = show_row(row).unit
    return metric_label(row.metric) + (f" ({unit})" if unit else "")


def _head(row: Row) -> str:
    return f"head {row.at['head']}"
