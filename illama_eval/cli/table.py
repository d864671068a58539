"""`illama-eval table`: one table of several runs, for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from illama_eval.cli.app import READ, app
from illama_eval.commands.options import OUTPUT, option


@app.command(rich_help_panel=READ)
def table(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Runs; A1,A2,A3: seeds of one model.")
    ],
    columns: Annotated[
        str | None,
        option(
            "Metrics: top1, ece, rank, shape_bias, ..., or STUDY.METRIC. Default: top1,ece,rank, "
            "as far as they were measured.",
            OUTPUT,
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        option("Another name for a model: SUBJECT=NAME, or RUN=NAME; repeatable.", OUTPUT),
    ] = None,
    form: Annotated[
        Literal["markdown", "latex", "csv"], option("How it is written.", OUTPUT, "--format")
    ] = "markdown",
    intervals: Annotated[
        Literal["small", "pm", "none"], option("Both ends, a plus-minus sign, or none.", OUTPUT)
    ] = "small",
    caption: Annotated[str, option("Caption instead of the notes that are written.", OUTPUT)] = "",
    label: Annotated[str, option("Label of the LaTeX table, such as tab:models.", OUTPUT)] = "",
    out: Annotated[Path | None, option("File to write; without it, the terminal.", OUTPUT)] = None,
) -> None:
    """One table of several models for a paper; the best is bold where paired differences say so."""
    from illama_eval.commands.table import TableOptions, make_table, write

    idle = {"--label": label and form != "latex", "--caption": caption and form == "csv"}
    flag = next((name for name, given in idle.items() if given), None)
    if flag is not None:
        raise typer.BadParameter(f"changes nothing beside --format {form}", param_hint=flag)
    renamed = dict(_pair(each) for each in names or ())
    options = TableOptions(form=form, intervals=intervals, caption=caption, label=label)
    wanted = None if columns is None else [name.strip() for name in columns.split(",")]
    text = make_table(runs, wanted, renamed, options)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write(text, out)


def _pair(given: str) -> tuple[str, str]:
    subject, equals, name = given.partition("=")
    if not (subject and equals and name):
        raise typer.BadParameter(f"{given} is not SUBJECT=NAME", param_hint="--names")
    return subject, name
