"""What a run directory says, drawn: tables and figures, made from its files alone."""

from __future__ import annotations

from pathlib import Path

from illama_eval.render.table import show, write_tables
from illama_eval.result import Run

__all__ = ["render_directory", "show"]


def render_directory(directory: Path) -> list[Path]:
    """Write tables/ and figures/ beside run.json; return what was written.

    Equal runs give equal bytes. Every file but run.json may be missing.

    Raises:
        ResultError: there is no readable run.json, or another file is damaged.
    """
    run = Run.load(directory)
    return write_tables(run, directory / "tables")
