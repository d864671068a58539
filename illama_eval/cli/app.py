"""The typer application that the commands register with."""

from __future__ import annotations

from typing import Annotated

import typer

from illama.help_pages import Commands

STUDY, GATE = "Study", "Gate"
"""Panels of the help pages, beside those of `illama_eval.commands.options`."""
MEASURE, CHANGE, READ = "Measure a model", "Change a model and measure it", "Read finished runs"
"""Panels of the commands."""

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(given: bool) -> None:
    if given:
        from importlib.metadata import version

        typer.echo(f"illama {version('illama')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version.", metavar="", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Measure what trained iLLaMA checkpoints are like; without one, the bundled demo."""
