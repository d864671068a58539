"""`illama-eval`: measure trained checkpoints."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from illama_eval.options import OUTPUT, Shared, option, with_shared

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
