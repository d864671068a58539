"""`illama-eval sweep` and `trajectory`: one model over a range of something."""

from __future__ import annotations

from typing import Annotated

import typer

from illama_eval.cli.app import CHANGE, STUDY, app
from illama_eval.commands.options import SharedOptions, option, with_shared


@app.command(rich_help_panel=CHANGE)
@with_shared
def sweep(
    shared: SharedOptions,
    soft_mask: Annotated[
        str | None, option("Soft masks, as START:STOP:STEP or A,B,C.", STUDY)
    ] = None,
    image_size: Annotated[
        str | None, option("Input sizes in pixels, as START:STOP:STEP or A,B,C.", STUDY)
    ] = None,
) -> int:
    """Every property of one checkpoint against its soft mask, or against the size of its input."""
    from illama_eval.commands.series import parse_values, run_sweep

    if (soft_mask is None) == (image_size is None):
        raise typer.BadParameter("give --soft-mask or --image-size", param_hint="sweep")
    if soft_mask is not None:
        return run_sweep(shared, "soft_mask", parse_values(soft_mask))
    return run_sweep(shared, "image_size", parse_values(image_size or "", whole=True))


@app.command(rich_help_panel=CHANGE)
@with_shared
def trajectory(shared: SharedOptions) -> int:
    """Every property against the epoch: the checkpoints of one training, as files or a folder."""
    from illama_eval.commands.series import run_trajectory

    return run_trajectory(shared)
