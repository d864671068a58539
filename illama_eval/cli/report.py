"""Commands that read finished runs, and `illama-eval list`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from illama_eval.cli.app import GATE, READ, app
from illama_eval.commands.options import OUTPUT, flag, option

if TYPE_CHECKING:
    from illama_eval.render.style.figure import FigureStyle

FIGURES = "Figures"


@contextmanager
def keeping_all() -> Iterator[None]:
    """Turn garbage collection off: what is read is kept, and scanning it takes time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@app.command(rich_help_panel=READ)
@keeping_all()
def compare(
    baseline: Annotated[str, typer.Argument(metavar="A", help="Run, or runs A1,A2,A3 (seeds).")],
    candidate: Annotated[str, typer.Argument(metavar="B", help="Run or runs over its images.")],
    everywhere: Annotated[
        bool, flag("Compare layers, heads and bins as well.", OUTPUT, "--everywhere")
    ] = False,
    everything: Annotated[
        bool, flag("Print every number, not the headline and what differs.", OUTPUT, "--all")
    ] = False,
    as_json: Annotated[bool, flag("Print JSON.", OUTPUT, "--json")] = False,
) -> None:
    """Paired differences of two runs over the same images, or of two groups of seeds."""
    from illama_eval.compare.comparison import compare_paths, to_json
    from illama_eval.render.terminal.comparison import show_comparison
    from illama_eval.render.terminal.tables import result_console

    compared = compare_paths(baseline, candidate, everywhere=everywhere)
    if as_json:
        typer.echo(to_json(compared), nl=False)
        return
    for each in compared:
        show_comparison(each, result_console(), everything=everything or everywhere)


@app.command(rich_help_panel=READ)
@keeping_all()
def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Run directories; none: all below reports/."),
    ] = None,
    out: Annotated[
        Path | None,
        option("Where to write. Default: RUN; of several, reports/comparison-NAMES.", OUTPUT),
    ] = None,
    figures: Annotated[
        bool, flag("Draw the figures as files, .png and .svg, with captions.", FIGURES, "--figures")
    ] = False,
    style: Annotated[
        Literal["page", "paper"],
        option("For paper: black axes, small font, .pdf too.", FIGURES, metavar="page|paper"),
    ] = "page",
    width: Annotated[
        float | None,
        option("Inches: a column has about 3.25. Default: 7.", FIGURES, metavar="INCHES"),
    ] = None,
    font_size: Annotated[
        float | None, option("Default: 9.6, for paper 8.", FIGURES, "--font-size", metavar="POINTS")
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
        bool, flag("Make RUN the baseline.", GATE, "--update-baseline")
    ] = False,
    as_json: Annotated[bool, flag("Print the verdict as JSON.", GATE, "--json")] = False,
    corpus: Annotated[
        Path | None,
        option("List (.toml) of many models: add each RUN, and write their table.", OUTPUT),
    ] = None,
) -> int:
    """Pages of finished runs, or of several side by side; with --baseline, a gate for CI.

    With --corpus, one table of many models, of which small files are kept beside the list.
    """
    from illama_eval.commands.report import Gate
    from illama_eval.commands.report import report as write

    if corpus is not None:
        from illama_eval.commands.corpus import report_corpus

        if figures or any((baseline, policy, junit, summary, update_baseline, as_json)):
            raise typer.BadParameter("takes RUN and --out alone", param_hint="--corpus")
        report_corpus(corpus, runs or [], out)
        return 0
    if baseline is None and any((policy, junit, summary, update_baseline, as_json)):
        raise typer.BadParameter("needed by the other options of the gate", param_hint="--baseline")
    if out is not None and not runs:
        raise typer.BadParameter("name the RUN that it is for", param_hint="--out")
    drawn = _figure_style(style, width, font_size) if figures else None
    if drawn is None and (style, width, font_size) != ("page", None, None):
        raise typer.BadParameter("needed by --style, --width, --font-size", param_hint="--figures")
    if baseline is None:
        return write(runs or [], out, None, drawn)
    if len(runs or []) != 1:
        raise typer.BadParameter("--baseline judges exactly one run", param_hint="RUN")
    gate = Gate(
        baseline=baseline,
        policy=policy,
        junit=junit,
        summary=summary,
        update=update_baseline,
        as_json=as_json,
    )
    return write(runs or [], out, gate, drawn)


def _figure_style(
    purpose: Literal["page", "paper"], width: float | None, font_size: float | None
) -> FigureStyle:
    from illama_eval.render.style.figure import FigureStyle

    try:
        return FigureStyle(purpose, width, font_size)
    except ValueError as problem:
        raise typer.BadParameter(str(problem), param_hint="--style, --width, --font-size") from None


@app.command(name="list", rich_help_panel=READ)
def list_all() -> None:
    """Show studies, sources and model sizes."""
    from illama_eval.commands.list import show_all
    from illama_eval.render.terminal.tables import result_console

    show_all(result_console())
