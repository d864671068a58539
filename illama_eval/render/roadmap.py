"""The roadmap as CSV, Markdown, a figure and a table on the terminal, made from its runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console, JustifyMethod

from illama_eval.compare.change import Change
from illama_eval.compare.comparison import compare_runs
from illama_eval.compare.subject_run import read_subject_runs
from illama_eval.render.figures.canvas import save
from illama_eval.render.figures.roadmap import draw_roadmap
from illama_eval.render.format.numbers import MISSING, show_number
from illama_eval.render.roadmap_runs import QUANTITIES, RoadmapRuns, read_runs
from illama_eval.render.style.figure import drawing_style
from illama_eval.render.tables.text import pipe_table
from illama_eval.render.terminal.tables import add_row, plain_table, plain_text
from illama_eval.results import ResultError
from illama_eval.statistics import mean_interval

MINUS = "\N{MINUS SIGN}"
_ON_TERMINAL = (0, 1, 4, 3, 7, 8, 12)
"""Columns that fit a terminal; roadmap.md has all of them."""
_LEGEND = (
    "Rank is the index at which the singular values of the mean map reach 0.8 of their sum, mean "
    "over layers and heads; its controls stand beside it. Reach is the attention that the class "
    "token pays to image tokens; feature spread is how much its feature differs between images "
    "(0: not at all)."
)


def write_roadmap(out: Path) -> list[Path]:
    """Write roadmap.csv, roadmap.md and the figure; return the paths.

    Raises:
        ResultError: there is nothing to show, or it cannot be written.
    """
    runs = read_runs(out)
    texts = {"roadmap.csv": to_csv(runs), "roadmap.md": to_markdown(runs)}
    try:
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8", newline="")
        with drawing_style():
            figures = save(draw_roadmap(runs), out)
    except OSError as problem:
        raise ResultError(f"{out}: cannot be written ({problem.strerror})") from problem
    return [*figures, *(out / name for name in texts)]


def to_csv(runs: RoadmapRuns) -> str:
    """Return one line per run, with full digits and fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [each.name for each in QUANTITIES]
    writer.writerow(["step", "seed", "train_loss", *names, "class_token"])
    for run in runs.runs:
        values = [run.values[name] for name in names]
        writer.writerow([run.arm, run.seed, run.train_loss, *values, run.verdict])
    return text.getvalue()


def to_markdown(runs: RoadmapRuns) -> str:
    """Return the table by step, and the answers to the plan's questions."""
    head, lines = table_of(runs)
    found = [f"- **{question}** {answer}" for question, answer in answers(runs)]
    parts = [
        "# The road from ViT to iLLaMA, in small",
        _protocol(runs),
        pipe_table(head, lines, range(1, len(head) - 1)),
        _LEGEND,
        *(["## Answers", "\n".join(found)] if found else []),
    ]
    return "\n\n".join(parts) + "\n"


def _protocol(runs: RoadmapRuns) -> str:
    """Return how all runs were trained and measured."""
    recipe, train, test = (runs.plan[name] for name in ("recipe", "train", "test"))
    return (
        f"Every step with the same training: size {recipe['size']}, {train['images']:,} images of "
        f"{train['source']}, {recipe['epochs']} epochs, batch {recipe['batch_size']}, learning "
        f"rate {recipe['lr']:g}; measured on {test['images']:,} test images. Means over training "
        "seeds; where there are several, ± is half the 95 % interval of that mean (Student's t). "
        "The paper's numbers are of size T on ImageNet-1K and are here for their order alone."
    )


def table_of(runs: RoadmapRuns) -> tuple[list[str], list[list[str]]]:
    """Return head and lines of the table by step."""
    labels = [each.label for each in QUANTITIES]
    head = ["step", "seeds", "paper, T %", "train loss", *labels, "class token"]
    return head, [_line(runs, arm) for arm in runs.arms]


def _line(runs: RoadmapRuns, arm: str) -> list[str]:
    seeds, paper = runs.of(arm), runs.plan["arms"][arm]["paper"]
    losses = [run.train_loss for run in seeds]
    cells = [
        _spread([run.values[each.name] for run in seeds], 100 if each.percent else 1)
        for each in QUANTITIES
    ]
    verdicts = ", ".join(dict.fromkeys(run.verdict for run in seeds))
    shown = MISSING if paper is None else f"{100 * paper:.1f}"
    return [arm, str(len(seeds)), shown, _spread(losses), *cells, verdicts]


def _spread(values: Sequence[float | None], scale: float = 1) -> str:
    """Return the mean; of several, plus or minus half its 95 % interval."""
    known = [scale * value for value in values if value is not None]
    if not known:
        return MISSING
    if len(known) == 1:
        return show_number(known[0])
    low, high = mean_interval(known)
    half = (high - low) / 2
    ends = show_number(fmean(known), half), show_number(half, half)
    return " \N{PLUS-MINUS SIGN} ".join(ends)


def answers(runs: RoadmapRuns) -> Iterator[tuple[str, str]]:
    """Yield each question of the plan whose two steps have runs, with its answer."""
    for before, after, question in runs.plan["questions"]:
        sides = [[read_subject_runs(run.path) for run in runs.of(arm)] for arm in (before, after)]
        if all(sides):
            (compared,) = compare_runs(*sides)
            change = next(
                each
                for each in compared.changes
                if (each.study, each.metric) == ("accuracy", "top1")
            )
            yield question, _answer(change, before, after, [len(side) for side in sides])


def _answer(change: Change, before: str, after: str, seeds: Sequence[int]) -> str:
    if change.difference is None:
        return f"`{after}` and `{before}` cannot be compared: {change.problem or change.reason}."
    over_seeds = change.seeds_low is not None and change.seeds_high is not None
    low, high = (change.seeds_low, change.seeds_high) if over_seeds else (change.low, change.high)
    if low is None or high is None:
        return (
            f"`{after}` differs from `{before}` by {100 * change.difference:+.1f} points of top-1."
        )
    trained = f"{seeds[0]} and {seeds[1]} seeds"
    kind = f"over {trained}" if over_seeds else f"over images; {trained}"
    verdict = "No difference seen: " if low <= 0 <= high else ""
    return (
        f"{verdict}`{after}` {MINUS} `{before}` = {_points(change.difference)} points of top-1 "
        f"(95 % interval {kind}: {_points(low)} to {_points(high)})."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", MINUS)


def show_roadmap(out: Path, console: Console) -> None:
    """Print the table by step, and the answers.

    Raises:
        ResultError: there is nothing to show.
    """
    runs = read_runs(out)
    head, lines = table_of(runs)
    left = {head[0], head[-1]}
    names = [head[index] for index in _ON_TERMINAL]
    sides: dict[str, JustifyMethod] = {each: "left" if each in left else "right" for each in names}
    steps = plain_table(sides, console, wrapped=names[1:])
    for line in lines:
        add_row(steps, (line[index] for index in _ON_TERMINAL), console)
    console.print(steps)
    for question, answer in answers(runs):
        console.print(plain_text(f"{question} {answer.replace('`', '')}", console))
