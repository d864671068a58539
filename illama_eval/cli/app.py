"""The typer application that the commands register with."""

from __future__ import annotations

import typer

STUDY, GATE = "Study", "Gate"
"""Panels of the help pages, beside those of `illama_eval.commands.options`."""

app = typer.Typer(
    help="Measure what trained iLLaMA checkpoints are like; without one, the bundled demo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
