"""`illama-eval roadmap`: train and measure every step of the road from ViT to iLLaMA."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from illama_eval.cli.app import CHANGE, app
from illama_eval.commands.repeat import repeat_words


@app.command(rich_help_panel=CHANGE)
def roadmap(
    *,
    context: typer.Context,
    data: Annotated[str, typer.Option(help="Images with a train and a test split.")] = "cifar10",
    size: Annotated[str, typer.Option(help="Model size, as in illama.SIZES.")] = "nano",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images.", show_default="the recipe's")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each step.")] = 1,
    steps: Annotated[
        list[str] | None, typer.Option("--step", help="Only this step; may be repeated.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Train on the N images of smallest hash.")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option(min=1, help="Measure the N images of smallest hash.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Training of every step.")] = "cifar10-nano",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs, table and figure.")] = Path(
        "reports/roadmap"
    ),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train every step of the road from ViT to iLLaMA alike, and measure what each does.

    Calls with the same options and folder add to each other: more seeds, or more of some steps. The
    weights stay in its folder `training`; the last line says how to measure more of them.
    """
    from rich.console import Console

    from illama.distributed import choose_device
    from illama.training.loader import open_splits
    from illama.training.recipe import find_recipe
    from illama_eval.commands.roadmap import (
        Roadmap,
        choose_arms,
        further_command,
        shared_recipe,
        travel,
    )
    from illama_eval.render.roadmap import show_roadmap, write_roadmap
    from illama_eval.render.terminal.tables import result_console

    arms = choose_arms(steps or ())
    chosen = find_recipe(recipe).override([f"data={data}"])
    train, test = open_splits(chosen, images, test_images)
    planned = Roadmap(
        recipe=shared_recipe(recipe, size, train, epochs, changes or ()),
        train=train,
        test=test,
        out=out,
        device=choose_device(device),
        command=repeat_words(context),
    )
    log = Console(stderr=True, highlight=False)
    for _ in travel(planned, arms, seeds, log):
        written = write_roadmap(out)
    show_roadmap(out, result_console())
    typer.echo(written[-1].parent)
    more = further_command(out, data, arms)
    log.print(f"more of these models: {more}", markup=False, soft_wrap=True)
