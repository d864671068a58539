"""What a command is doing while it measures nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def announced(console: Console, doing: str) -> Iterator[None]:
    """Show what is being done while it lasts; without a terminal as a line."""
    if console.is_terminal:
        with console.status(doing):
            yield
    else:
        console.print(doing, markup=False)
        yield
