"""Text and tables on the terminal, as every command prints them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from illama_eval.render.format.escape import encodable

BETWEEN = 2
"""Characters between two columns."""
NARROWEST = 40
"""Columns of a terminal in which no number of a table is cut."""
LEAST = 14
"""Characters that a column of names has at least, where others can be left out for it."""


def result_console() -> Console:
    """Return the console of results, wide enough for numbers; a narrower terminal breaks lines."""
    console = Console(highlight=False)
    console.width = max(console.width, NARROWEST)
    return console


def plain_text(line: str, console: Console, style: str = "") -> Text:
    """Return the line in characters that the console can print; nothing in it is markup."""
    return Text(encodable(line, console.encoding), style=style)


def plain_table(
    columns: Mapping[str, JustifyMethod], console: Console, *, wrapped: Collection[str] = ()
) -> Table:
    """Return an empty table of these columns; only those in `wrapped` break into lines."""
    empty = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name, side in columns.items():
        empty.add_column(
            plain_text(name, console), justify=side, no_wrap=name not in wrapped, overflow="fold"
        )
    return empty


def fitting_table(
    columns: Mapping[str, JustifyMethod],
    lines: Iterable[Sequence[str]],
    console: Console,
    *,
    wrapped: Collection[str] = (),
    spare: Sequence[str] = (),
) -> tuple[Table, list[int]]:
    """Return an empty table of the columns that the console has room for, and their indices.

    Those of `spare` are left out one by one until none is cut and those of `wrapped` have LEAST
    characters each.
    """
    names = list(columns)
    needed = [
        LEAST if cells[0] in wrapped else max(map(len, "\n".join(cells).split("\n")))
        for cells in zip(names, *lines, strict=True)
    ]
    kept = list(range(len(names)))
    for name in spare:
        if sum(needed[index] + BETWEEN for index in kept) - BETWEEN <= console.width:
            break
        kept.remove(names.index(name))
    shown = {names[index]: columns[names[index]] for index in kept}
    return plain_table(shown, console, wrapped=wrapped), kept


def add_row(to: Table, cells: Iterable[str], console: Console, style: str = "") -> None:
    """Add a line of cells to the table; what is indented stays so where it breaks into lines."""
    to.add_row(*(_indented(cell, console, style) for cell in cells))


def _indented(cell: str, console: Console, style: str) -> Text | Padding:
    bare = cell.lstrip(" ")
    text = plain_text(bare, console, style)
    return Padding(text, (0, 0, 0, len(cell) - len(bare))) if bare != cell else text
