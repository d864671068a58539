"""What a run directory says, drawn: tables, figures and a page, made from its files alone."""

from __future__ import annotations

from illama_eval.render.report import render_directory, write_report
from illama_eval.render.terminal import show

__all__ = ["render_directory", "show", "write_report"]
