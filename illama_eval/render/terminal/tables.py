"""Text and tables on the terminal, as every command prints them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from illama_eval.render.format.escape import encodable


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


def add_row(to: Table, cells: Iterable[str], console: Console, style: str = "") -> None:
    """Add a line of cells to the table."""
    to.add_row(*(plain_text(cell, console, style) for cell in cells))
