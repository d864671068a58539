"""Commands that run one study, or all of them, and `illama-eval speed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from illama_eval.cli.app import MEASURE, STUDY, app
from illama_eval.commands.idle import refuse_idle
from illama_eval.commands.options import ALL_STUDIES, SharedOptions, flag, option, with_shared

Bins = Annotated[int, option("Confidence bins of equal width.", STUDY, "--bins", min=1)]
FittedOn = Annotated[
    Literal["hash", "first-half"],
    option("Temperature from the other half by id hash, or from the first half.", STUDY, rare=True),
]
Threshold = Annotated[
    float,
    option(
        "Share of the sum of singular values that the rank reaches.",
        STUDY,
        min=0.0,
        max=1.0,
        rare=True,
    ),
]
Spectra = Annotated[
    str, option("Images with spectra of their own: a number, or all.", STUDY, rare=True)
]

_PARAMETERS = {"calibration": ("bins", "calibration_split"), "rank": ("threshold", "spectra")}
"""Options of a study, by its name."""


@app.command(rich_help_panel=MEASURE)
@with_shared
def run(
    shared: SharedOptions,
    bins: Bins = 15,
    calibration_split: FittedOn = "hash",
    threshold: Threshold = 0.8,
    spectra: Spectra = "256",
    only: Annotated[
        str | None,
        option("These studies alone, as rank,collapse.", STUDY, "--only", metavar="STUDIES"),
    ] = None,
) -> int:
    """Measure everything that fits the images, in one pass."""
    from illama_eval.commands.evaluate import measure
    from illama_eval.commands.resolve import check_study_names

    given: dict[str, dict[str, object]] = {
        "calibration": {"bins": bins, "split": calibration_split},
        "rank": {"threshold": threshold, "spectra": _spectra(spectra)},
    }
    if only is None:
        return measure(shared, "run", {name: given.get(name, {}) for name in ALL_STUDIES})
    names = [name.strip() for name in only.split(",")]
    check_study_names(names)
    idle = {option for name in {*given} - {*names} for option in _PARAMETERS[name]}
    refuse_idle(shared.given, idle, f"--only {only}")
    return measure(shared, f"run-{'-'.join(names)}", {name: given.get(name, {}) for name in names})


@app.command(rich_help_panel=MEASURE)
@with_shared
def accuracy(
    shared: SharedOptions,
    predictions: Annotated[
        Path | None, option("Saved predictions (.npz) instead of a checkpoint.", STUDY)
    ] = None,
) -> int:
    """Top-1, top-5 and log loss."""
    from illama_eval.commands.evaluate import measure

    return measure(shared, "accuracy", {"accuracy": {}}, predictions)


@app.command(rich_help_panel=MEASURE)
@with_shared
def calibrate(
    shared: SharedOptions,
    bins: Bins = 15,
    calibration_split: FittedOn = "hash",
    predictions: Annotated[
        Path | None, option("Saved predictions (.npz) instead of a checkpoint.", STUDY)
    ] = None,
) -> int:
    """Calibration errors before and after temperature, with a reliability diagram."""
    from illama_eval.commands.evaluate import measure

    given = {"bins": bins, "split": calibration_split}
    studies = {"accuracy": {}, "calibration": given}
    return measure(shared, "calibrate", studies, predictions)


@app.command(rich_help_panel=MEASURE)
@with_shared
def rank(shared: SharedOptions, threshold: Threshold = 0.8, spectra: Spectra = "256") -> int:
    """Rank of the attention maps by layer and head, beside its controls."""
    from illama_eval.commands.evaluate import measure

    given = {"threshold": threshold, "spectra": _spectra(spectra)}
    return measure(shared, "rank", {"rank": given})


@app.command(rich_help_panel=MEASURE)
@with_shared
def collapse(
    shared: SharedOptions,
    control: Annotated[
        bool, flag("Measure the first checkpoint with random weights, too.", STUDY)
    ] = False,
    without_massive: Annotated[
        bool,
        flag(
            "Measure the first checkpoint with its massive activations removed, too.",
            STUDY,
            "--without-massive",
        ),
    ] = False,
    background: Annotated[
        str | None,
        option(
            "Classes of the masks that are background, for sinks on it, as 1,3,none (no class).",
            STUDY,
            metavar="CLASSES",
        ),
    ] = None,
) -> int:
    """Attention collapse in all its meanings, with a verdict for each."""
    from illama_eval.commands.evaluate import measure_collapse

    classes = None if background is None else background.split(",")
    return measure_collapse(
        shared, control=control, without_massive=without_massive, background=classes
    )


@app.command(rich_help_panel=MEASURE)
@with_shared
def causality(shared: SharedOptions) -> int:
    """Whether earlier patches depend on later ones, how much, and through which edge."""
    from illama_eval.commands.evaluate import measure

    return measure(shared, "causality", {"causality": {}})


@app.command(rich_help_panel=MEASURE)
@with_shared
def anytime(shared: SharedOptions) -> int:
    """What a model answers after 25, 50 and 75 % of the patches."""
    from illama_eval.commands.evaluate import measure

    return measure(shared, "anytime", {"anytime": {}})


@app.command(rich_help_panel=MEASURE)
@with_shared
def lens(shared: SharedOptions) -> int:
    """Accuracy of the head and of nearest neighbours, read off after every block."""
    from illama_eval.commands.evaluate import measure

    return measure(shared, "lens", {"lens": {}})


@app.command(rich_help_panel=MEASURE)
@with_shared
def distance(shared: SharedOptions) -> int:
    """How far attention looks, and which patches reach the head by rollout."""
    from illama_eval.commands.evaluate import measure

    return measure(shared, "distance", {"distance": {}})


@app.command(name="shape-bias", rich_help_panel=MEASURE)
@with_shared
def shape_bias(
    shared: SharedOptions,
    categories: Annotated[
        Path | None,
        option("JSON with the head's indices of each category, where they are not known.", STUDY),
    ] = None,
    observers: Annotated[
        list[Path] | None,
        option(
            "CSV of others' decisions: subject or model, shape, texture, decision, image.", STUDY
        ),
    ] = None,
) -> int:
    """Decisions by shape or by texture on cue-conflict pictures, beside people and models."""
    from dataclasses import replace

    from illama_eval.commands.evaluate import measure_shape_bias
    from illama_eval.commands.resolve import ShapeBiasInputs

    bundled = not (shared.checkpoints or shared.models) and shared.data is None
    if (bundled or shared.data == "demo") and shared.split == "test":
        shared = replace(shared, split="cue-conflict")
    cues = ShapeBiasInputs(categories=categories, observers=tuple(observers or ()))
    return measure_shape_bias(shared, cues)


@app.command(rich_help_panel=MEASURE)
@with_shared
def segment(shared: SharedOptions) -> int:
    """Intersection over union of the classes of pixels: whole, by windows, at several scales."""
    from illama_eval.commands.evaluate import measure_segmentation

    return measure_segmentation(shared)


@app.command(rich_help_panel=MEASURE)
@with_shared
def speed(shared: SharedOptions) -> int:
    """Images per second, latency and memory against the bidirectional twin, in about 20 s."""
    from illama_eval.commands.evaluate import compare_speed

    return compare_speed(shared)


def _spectra(given: str) -> int | None:
    """Return the number of images with spectra; None for all."""
    if given == "all":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise typer.BadParameter("a positive whole number, or all", param_hint="--spectra")
    return int(given)
