"""`illama-eval`, the command line: options and help texts; each command calls one function."""

from __future__ import annotations

from illama_eval.cli import evaluate, export, quantize, report, roadmap, series, table, transfer
from illama_eval.cli.app import app

__all__ = [
    "app",
    "evaluate",
    "export",
    "main",
    "quantize",
    "report",
    "roadmap",
    "series",
    "table",
    "transfer",
]


def main() -> None:
    """Run the command line; errors are one line and an exit code."""
    from illama.exits import run as run_app

    run_app(app, "illama-eval")
