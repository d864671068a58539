"""`illama-eval transfer`: transfer a checkpoint to another data set and measure the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from illama_eval.cli.app import CHANGE, STUDY, app
from illama_eval.commands.idle import refuse_idle
from illama_eval.commands.options import (
    IMAGES,
    MACHINE,
    SharedOptions,
    TrainData,
    TrainLimit,
    flag,
    option,
    with_shared,
)

_IDLE = {
    "linear": {"neighbours", "preset", "changes"},
    "knn": {"grid", "preset", "changes"},
    "finetune": {"features", "grid", "neighbours", "shots", "draws", "cache"},
}
"""Options that change nothing, by the classifier."""


@app.command(rich_help_panel=CHANGE)
@with_shared
def transfer(
    shared: SharedOptions,
    probe: Annotated[
        Literal["linear", "knn", "finetune"],
        option("A linear classifier or neighbours on frozen features, or all weights.", STUDY),
    ] = "linear",
    features: Annotated[
        Literal["class", "patches", "last4"],
        option("Class token, mean of the patches, or class tokens of the last 4 blocks.", STUDY),
    ] = "class",
    grid: Annotated[
        int,
        option(
            "linear: number of values of C, from 1e-6 to 1e5.",
            STUDY,
            "--grid",
            rare=True,
            min=1,
            max=64,
        ),
    ] = 45,
    neighbours: Annotated[
        str, option("knn: values of k; the first is the classifier's.", STUDY, rare=True)
    ] = "20,10,100,200",
    shots: Annotated[
        str | None,
        option(
            "Also with few training images per class, such as 1,5,10,all.", STUDY, metavar="N,..."
        ),
    ] = None,
    draws: Annotated[int, option("Draws for each number of --shots.", STUDY, rare=True, min=1)] = 5,
    preset: Annotated[
        Literal["paper", "quick"],
        option("finetune: the paper's CIFAR recipe, or 20 epochs.", STUDY, rare=True),
    ] = "quick",
    changes: Annotated[
        list[str] | None,
        option(
            "finetune: change a field of the recipe.",
            STUDY,
            "--set",
            rare=True,
            metavar="FIELD=VALUE",
        ),
    ] = None,
    control: Annotated[
        bool, flag("Beside it the same model with random weights.", STUDY, "--control")
    ] = False,
    train_data: TrainData = None,
    train_labels: Annotated[
        Path | None,
        option("CSV with the labels of a flat training split (file,label).", IMAGES, rare=True),
    ] = None,
    train_limit: TrainLimit = None,
    cache: Annotated[
        Path | None,
        option(
            "Folder of kept features and prepared images, shared by runs. Default: features alone, "
            "in --out.",
            MACHINE,
            rare=True,
        ),
    ] = None,
) -> int:
    """Transfer to other images: linear probe, nearest neighbours, or fine-tuning."""
    from illama_eval.commands.transfer import TransferOptions, run_transfer

    options = TransferOptions(
        train_data=train_data,
        train_labels=train_labels,
        train_limit=train_limit,
        control=control,
        cache=cache,
    )
    refuse_idle(shared.given, _IDLE[probe], f"--probe {probe}")
    if shots is None:
        refuse_idle(shared.given, {"draws"}, "a command without --shots")
    if probe == "finetune":
        from illama_eval.commands.finetune import run_finetune

        return run_finetune(shared, options, preset, tuple(changes or ()))
    from illama_eval.transfer.linear import default_grid
    from illama_eval.transfer.probe import ProbeConfig

    linear = probe == "linear"
    config = ProbeConfig(
        probe=probe,
        kind=features,
        grid=default_grid(grid) if linear else (),
        neighbours=() if linear else _numbers(neighbours, "--neighbours"),
        shots=() if shots is None else _shots(shots),
        draws=draws,
        seed=shared.seed,
    )
    return run_transfer(shared, options, config)


def _numbers(given: str, name: str) -> tuple[int, ...]:
    """Return whole numbers from 1 up, each once, in their order."""
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise typer.BadParameter(
            f"{given} is not a list of positive whole numbers", param_hint=name
        )
    return tuple(dict.fromkeys(map(int, words)))


def _shots(given: str) -> tuple[int | Literal["all"], ...]:
    """Return images per class, ascending, with `all` last."""
    words = [word.strip() for word in given.split(",")]
    few = [word for word in words if word != "all"]
    numbers = sorted(_numbers(",".join(few), "--shots")) if few else []
    return (*numbers, "all") if "all" in words else tuple(numbers)
