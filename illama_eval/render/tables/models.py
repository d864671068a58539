"""Tables of several models for papers: LaTeX, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Literal, TypeAlias

from illama_eval.compare.model_table import Cell, ModelRow, ModelTable
from illama_eval.render.format.escape import csv_cell, markdown_cell
from illama_eval.render.format.glossary import ARROWS, column_label
from illama_eval.render.format.numbers import MISSING, show_images, show_number, show_row
from illama_eval.render.tables.text import latex_cell, latex_table
from illama_eval.results import Row

Intervals: TypeAlias = Literal["small", "pm", "none"]
"""Both ends in small print, the distance to the farther end behind a plus-minus sign, or none."""


def models_to_latex(
    table: ModelTable, intervals: Intervals = "small", caption: str = "", label: str = ""
) -> str:
    """Return a `table` for a paper; the preamble needs booktabs."""
    head = [latex_cell(each) for each in _head(table)]
    lines = [
        [*map(latex_cell, _first(table, row)), *(_latex(cell, intervals) for cell in row.cells)]
        for row in table.rows
    ]
    first = len(head) - len(table.columns)
    written = latex_table(
        head,
        lines,
        set(range(first, len(head))),
        latex_cell(caption) if caption else " ".join(map(latex_cell, notes(table, intervals))),
        label,
    )
    return "% \\usepackage{booktabs}\n" + written


def models_to_markdown(table: ModelTable, intervals: Intervals = "small", caption: str = "") -> str:
    """Return a pipe table, with the caption or the notes below it."""
    head = [markdown_cell(each) for each in _head(table)]
    numbers = len(table.columns)
    rule = [*[":---"] * (len(head) - numbers), *["---:"] * numbers]
    lines = [
        [
            *map(markdown_cell, _first(table, row)),
            *(_markdown(cell, intervals) for cell in row.cells),
        ]
        for row in table.rows
    ]
    body = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))
    below = caption or " ".join(map(markdown_cell, notes(table, intervals)))
    return f"{body}\n\n{below}\n"


def models_to_csv(table: ModelTable) -> str:
    """Return plain numbers, fractions and not percent: value, low and high of each column.

    Where rows have a reference, its name and the differences to it follow.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [column.name for column in table.columns]
    compared = any(row.reference for row in table.rows)
    of_value, of_change = ("", ".low", ".high"), (".change", ".change.low", ".change.high")
    head = [f"{name}{end}" for name in names for end in of_value]
    changed = [f"{name}{end}" for name in names for end in of_change] if compared else []
    start = ["model", "source", "images", "seeds", *(["reference"] if compared else [])]
    writer.writerow([*start, *head, *changed])
    for row in table.rows:
        given = [
            row.name,
            row.source,
            row.images,
            row.seeds,
            *([row.reference] if compared else []),
        ]
        given += [value for cell in row.cells for value in _numbers(cell)]
        given += [value for cell in row.cells if compared for value in _differences(cell)]
        writer.writerow([csv_cell(value) for value in given])
    return stream.getvalue()


def _numbers(cell: Cell) -> list[float | None]:
    """Return value, low and high."""
    return [cell.row.value, cell.row.low, cell.row.high] if cell.row else [None] * 3


def _differences(cell: Cell) -> list[float | None]:
    """Return the difference to the reference, with its ends over images, or over seeds."""
    change = cell.change
    if change is None:
        return [None] * 3
    over_seeds = change.seeds_low is not None
    low, high = (change.seeds_low, change.seeds_high) if over_seeds else (change.low, change.high)
    return [change.difference, low, high]


def notes(table: ModelTable, intervals: Intervals) -> Iterator[str]:
    """Yield what a reader must know of the table, a sentence each."""
    if table.same_images:
        yield f"Measured on {table.rows[0].source} ({show_images(table.rows[0].images)})."
    else:
        yield "The models were measured on different images: rows are not to be compared."
    over = "training seeds" if all(row.seeds > 1 for row in table.rows) else "images"
    if any(row.seeds > 1 for row in table.rows) and over == "images":
        over = "images, of a mean over training seeds"
    if intervals == "small":
        yield f"Small print: 95 % interval over {over}."
    elif intervals == "pm":
        yield f"After the sign: distance to the farther end of the 95 % interval over {over}."
    if any(cell.best for row in table.rows for cell in row.cells):
        yield "Bold: better than every other model, each by a paired difference."
    elif len(table.rows) > 1 and table.same_images:
        yield "No model is better than every other by paired differences."


def _head(table: ModelTable) -> list[str]:
    images = [] if table.same_images else ["images"]
    return ["model", *images, *(_title(table, number) for number in range(len(table.columns)))]


def _title(table: ModelTable, number: int) -> str:
    """Return metric, the map or layer that is meant, unit and an arrow to the better side."""
    column = table.columns[number]
    rows = (row.cells[number].row for row in table.rows)
    unit = next((show_row(row).unit for row in rows if row is not None), "")
    named = unit not in {"", "index"}  # an index is a number without a unit
    name = column_label(column.metric, column.at) + (f" ({unit})" if named else "")
    return f"{name} {ARROWS[column.better]}".rstrip()


def _first(table: ModelTable, row: ModelRow) -> list[str]:
    """Return the cells before the numbers: the name, and the images where they differ."""
    name = row.name + (f" ({row.seeds} seeds)" if row.seeds > 1 else "")
    return [name] if table.same_images else [name, f"{row.source}, {row.images:,}"]


def _latex(cell: Cell, intervals: Intervals) -> str:
    if cell.row is None:
        return "--"
    shown = show_row(cell.row)
    value = latex_cell(shown.value)
    value = rf"\textbf{{{value}}}" if cell.best else value
    if not shown.low or intervals == "none":
        return value
    if intervals == "pm":
        return rf"{value} $\pm$ {latex_cell(_farther_end(cell.row))}"
    ends = latex_cell(f"{shown.low} to {shown.high}")
    return rf"{value} {{\scriptsize {ends}}}"


def _markdown(cell: Cell, intervals: Intervals) -> str:
    if cell.row is None:
        return MISSING
    shown = show_row(cell.row)
    value = f"**{shown.value}**" if cell.best else shown.value
    if not shown.low or intervals == "none":
        return value
    if intervals == "pm":
        return f"{value} \N{PLUS-MINUS SIGN} {_farther_end(cell.row)}"
    return f"{value} ({shown.low} to {shown.high})"


def _farther_end(row: Row) -> str:
    """Return the distance to the farther end of the interval, in the digits of the value."""
    assert row.value is not None
    assert row.low is not None
    assert row.high is not None
    scale = 100.0 if row.unit == "fraction" else 1.0
    farther = max(row.high - row.value, row.value - row.low)
    return show_number(farther * scale, (row.high - row.low) / 2 * scale)
