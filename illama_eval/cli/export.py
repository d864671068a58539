"""`illama-eval export`: a finished run for the trackers that people use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from illama_eval.cli.app import READ, app
from illama_eval.commands.options import OUTPUT, option


@app.command(rich_help_panel=READ)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")],
    to: Annotated[
        Literal["mlflow", "wandb", "tensorboard"],
        option("Where to; its package must be installed.", OUTPUT, "--to"),
    ],
    folder: Annotated[
        Path | None,
        option("MLflow's file store, or the folder of logs. Default: the tracker's own.", OUTPUT),
    ] = None,
) -> None:
    """Write a finished run to MLflow, Weights & Biases or TensorBoard, with its intervals."""
    from illama_eval.commands.export import export as write

    for subject, place in write(run, to, folder).items():
        typer.echo(f"{subject}: written to {place}")
