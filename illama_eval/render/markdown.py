"""Rows as Markdown tables, for reading: whole source first, then by place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from illama_eval.render.number import show_row
from illama_eval.render.select import better, subjects_of
from illama_eval.render.text import markdown_cell, plain
from illama_eval.render.words import ARROWS, heading, metric_label, study_label
from illama_eval.result import Row, Run

_LONGEST_CELL = 200
_HEADLINE = ("study", "metric", "better", "value", "unit", "95 % interval", "images", "remark")


def to_markdown(run: Run, rows: Sequence[Row]) -> str:
    """Return the rows as Markdown tables: numbers for the whole source first, then by place."""
    blocks = []
    for subject in subjects_of(run):
        mine = [row for row in rows if row.subject == subject]
        if mine:
            blocks += [f"## {markdown_cell(heading(mine))}", *_tables_of(run, mine)]
    return "\n\n".join(blocks) + "\n"


def _tables_of(run: Run, rows: Sequence[Row]) -> list[str]:
    whole = [row for row in rows if not row.at]
    blocks = [_headline_table(run, whole)] if whole else []
    by_place: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.at:
            by_place.setdefault((row.study, *row.at), []).append(row)
    for (study, *keys), here in by_place.items():
        if "head" in keys:
            blocks += _tables_by_head([key for key in keys if key != "head"], here)
        else:
            blocks += [f"### {markdown_cell(study_label(study))}", _pivot(keys, here, _metric)]
    return blocks


def _headline_table(run: Run, rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        shown = show_row(row)
        lines.append((study_label(row.study), metric_label(row.metric), ARROWS[better(run, row)],
                      shown.value, shown.unit, shown.interval, f"{row.images:,}",
                      row.reason))  # fmt: skip
    return _pipe_table(_HEADLINE, lines, right={3, 6})


def _tables_by_head(keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return a title and a table for each metric: a line per layer, a column per head."""
    blocks = []
    for metric in dict.fromkeys(row.metric for row in rows):
        mine = [row for row in rows if row.metric == metric]
        blocks += [f"### {markdown_cell(_metric(mine[0]))}", _pivot(keys, mine, _head)]
    return blocks


def _pivot(keys: Sequence[str], rows: Sequence[Row], column_of: Callable[[Row], str]) -> str:
    """Return a table with a line per place; `column_of` tells in which column a row's value is."""
    columns = list(dict.fromkeys(column_of(row) for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        place = tuple(str(row.at[key]) for key in keys)
        lines.setdefault(place, {})[column_of(row)] = show_row(row).value
    cells = [[*place, *(found.get(name, "") for name in columns)] for place, found in lines.items()]
    width = len(keys) + len(columns)
    return _pipe_table([*keys, *columns], cells, right=range(len(keys), width))


def _metric(row: Row) -> str:
    unit = show_row(row).unit
    return metric_label(row.metric) + (f" ({unit})" if unit else "")


def _head(row: Row) -> str:
    return f"head {row.at['head']}"


def _pipe_table(
    head: Sequence[str], lines: Iterable[Sequence[str]], right: Iterable[int] = ()
) -> str:
    """Return a Markdown table with the columns `right` aligned to the right."""
    aligned = set(right)
    rule = ["---:" if column in aligned else ":---" for column in range(len(head))]
    body = [[markdown_cell(plain(cell, _LONGEST_CELL)) for cell in line] for line in (head, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (body[0], rule, *body[1:]))
