"""`illama-eval`: measure trained checkpoints."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from illama_eval.options import IMAGES, OUTPUT, Shared, option, with_shared

STUDY, GATE = "Study", "Gate"

app = typer.Typer(
    help="Measure what trained iLLaMA checkpoints are like; without one, the bundled demo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class CalibrationSplit(StrEnum):
    """Which images fit the temperature, and which are scored with it."""

    hash = "hash"
    first_half = "first-half"


Bins = Annotated[int, option("Confidence bins of equal width.", STUDY, "--bins", min=1)]
FittedOn = Annotated[
    CalibrationSplit,
    option("Temperature from the other half by id hash, or from the first half.", STUDY),
]
Threshold = Annotated[
    float, option("Share of the singular values that the rank reaches.", STUDY, min=0.0, max=1.0)
]
Spectra = Annotated[str, option("Images with spectra of their own: a number, or all.", STUDY)]


@app.command()
@with_shared
def run(
    shared: Shared,
    bins: Bins = 15,
    calibration_split: FittedOn = CalibrationSplit.hash,
    threshold: Threshold = 0.8,
    spectra: Spectra = "256",
) -> int:
    """Measure everything that fits the images, in one pass."""
    from illama_eval.command import measure

    studies: dict[str, dict[str, object]] = {
        "accuracy": {},
        "calibration": {"bins": bins, "split": calibration_split.value},
        "rank": {"threshold": threshold, "spectra": _spectra(spectra)},
        "collapse": {},
        "agreement": {},
    }
    return measure(shared, "run", studies)


@app.command()
@with_shared
def accuracy(
    shared: Shared,
    predictions: Annotated[
        Path | None, option("Saved predictions (.npz) instead of a checkpoint.", STUDY)
    ] = None,
) -> int:
    """Top-1, top-5 and log loss."""
    from illama_eval.command import measure

    return measure(shared, "accuracy", {"accuracy": {}}, predictions)


@app.command()
@with_shared
def calibrate(
    shared: Shared,
    bins: Bins = 15,
    calibration_split: FittedOn = CalibrationSplit.hash,
    predictions: Annotated[
        Path | None, option("Saved predictions (.npz) instead of a checkpoint.", STUDY)
    ] = None,
) -> int:
    """Calibration errors before and after temperature, with a reliability diagram."""
    from illama_eval.command import measure

    given = {"bins": bins, "split": calibration_split.value}
    studies = {"accuracy": {}, "calibration": given}
    return measure(shared, "calibrate", studies, predictions)


@app.command()
@with_shared
def rank(shared: Shared, threshold: Threshold = 0.8, spectra: Spectra = "256") -> int:
    """Rank of the attention maps by layer and head, beside its controls."""
    from illama_eval.command import measure

    given = {"threshold": threshold, "spectra": _spectra(spectra)}
    return measure(shared, "rank", {"rank": given})


@app.command()
@with_shared
def collapse(shared: Shared) -> int:
    """Attention collapse in all its meanings, with a verdict for each."""
    from illama_eval.command import measure

    return measure(shared, "collapse", {"collapse": {}})


class Rounding(StrEnum):
    """How weights are rounded."""

    nearest = "nearest"
    mse = "mse"
    gptq = "gptq"


class Clipping(StrEnum):
    """How the range of static activations is chosen."""

    mse = "mse"
    minmax = "minmax"
    percentile = "percentile"


class Latency(StrEnum):
    """What is timed."""

    both = "both"
    eager = "eager"
    none = "none"


@app.command()
@with_shared
def quantize(
    shared: Shared,
    bits: Annotated[
        int | None, option("8 (w8a8-dynamic), 6, 4, 3 or 2 (weights alone).", STUDY, "--bits")
    ] = None,
    scheme: Annotated[
        str | None,
        option(
            "w8, w8a8-dynamic, w8a8-static, w6, w4, w3, w2, fp8 (GPU), w4a4, or a JSON file of "
            "schemes by layer.",
            STUDY,
        ),
    ] = None,
    group_size: Annotated[
        int, option("Inputs that share a scale, below 8 bits.", STUDY, "--group-size")
    ] = 32,
    asymmetric: Annotated[bool, option("With zero points.", STUDY, "--asymmetric")] = False,
    smooth: Annotated[
        float | None, option("SmoothQuant of this strength, 0 to 1.", STUDY, "--smooth")
    ] = None,
    rounding: Annotated[
        Rounding, option("Nearest, with clip search, or GPTQ.", STUDY)
    ] = Rounding.nearest,
    clipping: Annotated[Clipping, option("Range of static inputs.", STUDY)] = Clipping.mse,
    exclude: Annotated[
        list[str] | None,
        option("Layers that stay in float, as patterns; none: no layer. Default: head.", STUDY),
    ] = None,
    calibration_data: Annotated[
        str | None, option("Images to calibrate on. Default: the train split of --data.", IMAGES)
    ] = None,
    calibration_images: Annotated[int, option("How many.", IMAGES)] = 128,
    latency: Annotated[Latency, option("Time both modes, eager only, or none.", STUDY)] = (
        Latency.both
    ),
    sensitivity: Annotated[
        bool, option("Quantize each layer alone; a map of layer by kind.", STUDY, "--sensitivity")
    ] = False,
    sweep: Annotated[
        bool, option("Compare all schemes in one table and figure.", STUDY, "--sweep")
    ] = False,
    mixed: Annotated[
        bool, option("Choose each layer's bits within --budget.", STUDY, "--mixed")
    ] = False,
    budget: Annotated[
        float, option("Size of a mixed file, as a share of the full-precision one.", STUDY)
    ] = 0.5,
) -> int:
    """Post-training quantization: files, speed, and every property before and after."""
    from illama_eval.quantization import Asked, check_asked, choose, run_quantize

    name = _scheme(bits, scheme)
    excluded = ("head",) if exclude is None else tuple(each for each in exclude if each != "none")
    choices = choose(
        name,
        group_size=group_size,
        asymmetric=asymmetric,
        smooth=smooth,
        rounding=rounding.value,
        clipping=clipping.value,
        exclude=excluded,
    )
    asked = Asked(
        choices=choices,
        calibration_data=calibration_data,
        calibration_images=calibration_images,
        latency=latency.value,
        sensitivity=sensitivity,
        sweep=sweep,
        budget=budget if mixed else None,
    )
    check_asked(asked)
    return run_quantize(shared, asked)


def _scheme(bits: int | None, scheme: str | None) -> str:
    """Return the scheme that the options name."""
    by_bits = {8: "w8a8-dynamic", 6: "w6", 4: "w4", 3: "w3", 2: "w2"}
    if bits is None:
        return scheme or by_bits[8]
    if scheme is not None:
        raise typer.BadParameter("give --bits or --scheme, not both", param_hint="--bits")
    if bits not in by_bits:
        raise typer.BadParameter(f"{bits} is not 8, 6, 4, 3 or 2", param_hint="--bits")
    return by_bits[bits]


@app.command()
@with_shared
def speed(shared: Shared) -> int:
    """Images per second, latency and memory against the bidirectional twin."""
    from illama_eval.command import compare_speed

    return compare_speed(shared)


@app.command()
def compare(
    baseline: Annotated[str, typer.Argument(metavar="A", help="Run, or runs A1,A2,A3 (seeds).")],
    candidate: Annotated[str, typer.Argument(metavar="B", help="Run or runs over its images.")],
    everywhere: Annotated[
        bool, option("Compare layers, heads and bins as well.", OUTPUT, "--everywhere")
    ] = False,
    as_json: Annotated[bool, option("Print JSON.", OUTPUT, "--json")] = False,
) -> None:
    """Paired differences of two runs over the same images, or of two groups of seeds."""
    from rich.console import Console

    from illama_eval.comparison import compare_paths, to_json
    from illama_eval.render.comparison import show_comparison

    compared = compare_paths(baseline, candidate, everywhere=everywhere)
    if as_json:
        typer.echo(to_json(compared), nl=False)
        return
    for each in compared:
        show_comparison(each, Console(highlight=False))


@app.command()
def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Run directories; none: all below reports/."),
    ] = None,
    out: Annotated[
        Path | None,
        option("Where to write. Default: RUN itself; of several, reports/comparison.", OUTPUT),
    ] = None,
    baseline: Annotated[
        Path | None, option("Judge RUN against a baseline file or another run.", GATE)
    ] = None,
    policy: Annotated[Path | None, option("TOML with tolerances and severities.", GATE)] = None,
    junit: Annotated[Path | None, option("Write the verdict as JUnit XML.", GATE)] = None,
    summary: Annotated[
        Path | None, option("Append the verdict as Markdown ($GITHUB_STEP_SUMMARY).", GATE)
    ] = None,
    update_baseline: Annotated[
        bool, option("Make RUN the baseline.", GATE, "--update-baseline")
    ] = False,
    as_json: Annotated[bool, option("Print the verdict as JSON.", GATE, "--json")] = False,
) -> int:
    """Pages of finished runs, or of several side by side; with --baseline, a gate for CI."""
    from illama_eval.report import Gate
    from illama_eval.report import report as write

    if baseline is None and any((policy, junit, summary, update_baseline, as_json)):
        raise typer.BadParameter("needed by the other options of the gate", param_hint="--baseline")
    if baseline is None:
        return write(runs or [], out, None)
    if len(runs or []) != 1:
        raise typer.BadParameter("--baseline judges exactly one run", param_hint="RUN")
    gate = Gate(baseline=baseline, policy=policy, junit=junit, summary=summary,
                update=update_baseline, as_json=as_json)  # fmt: skip
    return write(runs or [], out, gate)


@app.command(name="list")
def list_all() -> None:
    """Show studies, sources and model sizes."""
    from rich.console import Console

    from illama_eval.listing import show_all

    show_all(Console(highlight=False))


def _spectra(given: str) -> int | None:
    """Return how many images get spectra; None for all."""
    if given == "all":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise typer.BadParameter("a positive whole number, or all", param_hint="--spectra")
    return int(given)


def main() -> None:
    """Run the command line; errors are one line and an exit code."""
    from illama.exits import run as run_app

    run_app(app, "illama-eval")
