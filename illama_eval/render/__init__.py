"""What a run directory says, drawn: tables and figures, made from its files alone."""

from __future__ import annotations

from pathlib import Path

from illama_eval.render.figure import write_figures
from illama_eval.render.figures.attention import read_samples
from illama_eval.render.table import write_tables
from illama_eval.render.terminal import show
from illama_eval.result import Run

__all__ = ["render_directory", "show"]


def render_directory(directory: Path) -> list[Path]:
    """Write tables/ and figures/ beside run.json; return what was written.

    Equal runs give equal bytes. Every file but run.json may be missing.

    Raises:
        ResultError: there is no readable run.json, or another file is damaged.
    """
    run = Run.load(directory)
    samples = read_samples(directory)
    tables = write_tables(run, directory / "tables")
    return [*tables, *write_figures(run, directory / "figures", samples)]
