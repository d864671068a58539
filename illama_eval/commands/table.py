"""`illama-eval table`: models side by side, as text for a paper; reads run directories alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from illama.files import replacing
from illama_eval.compare.model_table import read_model_table
from illama_eval.render.tables.models import (
    Intervals,
    models_to_csv,
    models_to_latex,
    models_to_markdown,
)

Form = Literal["markdown", "latex", "csv"]


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How the table is written."""

    form: Form = "markdown"
    intervals: Intervals = "small"
    caption: str = ""
    """Instead of the notes on images, intervals and bold numbers."""
    label: str = ""
    """Of the LaTeX table."""


def make_table(
    runs: Sequence[str],
    columns: Sequence[str] | None,
    names: Mapping[str, str],
    options: TableOptions,
) -> str:
    """Return the table of some runs as text.

    Raises:
        ResultError: a run cannot be read, or a column or a name is in none of them.
    """
    table = read_model_table(runs, columns, names)
    if options.form == "latex":
        return models_to_latex(table, options.intervals, options.caption, options.label)
    if options.form == "markdown":
        return models_to_markdown(table, options.intervals, options.caption)
    return models_to_csv(table)


def write(text: str, path: Path) -> None:
    """Write the text to a file.

    Raises:
        CheckpointError: it cannot be written.
    """
    with replacing(path) as stream:
        stream.write(text.encode("utf-8"))
