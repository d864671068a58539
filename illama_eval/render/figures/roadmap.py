"""Figure of a roadmap: a row for each step, a panel for each property, a point for each seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from illama_eval.render.figures.canvas import SMALL, WIDTH, Drawing, add_legend, label_width, sheet
from illama_eval.render.style.palette import AXIS, HAIRLINE, RUNS, TEXT
from illama_eval.statistics import mean_interval

if TYPE_CHECKING:
    from illama_eval.render.roadmap_runs import RoadmapRun, RoadmapRuns

ROW = 0.3
"""Height of a step in inches."""
ABOVE, BELOW, GAP = 0.6, 0.55, 0.22
"""Inches above and below the panels, and between two of them."""
_ISOLATED = "isolated"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One property: its axis, and what is drawn of a run."""

    title: str
    unit: str
    series: Sequence[tuple[str, Callable[[RoadmapRun], float | None], int]]
    """Label, value of a run, and index of the look."""
    floor: float | None = 0.0
    """Where the axis begins; None: where the values do."""
    top: float | None = None


def _stored(name: str, scale: float = 1) -> Callable[[RoadmapRun], float | None]:
    def value(run: RoadmapRun) -> float | None:
        found = run.values[name]
        return None if found is None else scale * found

    return value


PANELS: Sequence[Panel] = (
    Panel(title="top-1", unit="%", series=(("", _stored("top1", 100), 1),)),
    Panel(
        title="train loss", unit="nats", series=(("", lambda run: run.train_loss, 1),), floor=None
    ),
    Panel(
        title="attention rank",
        unit="of the tokens",
        series=(
            ("map that is used", _stored("rank_used"), 1),
            ("before the mask", _stored("rank_softmax"), 2),
            ("mask laid over it", _stored("rank_masked"), 3),
        ),
    ),
    Panel(title="reach", unit="share of attention", series=(("", _stored("reach"), 1),), top=1.0),
    Panel(
        title="feature spread",
        unit="share of power",
        series=(("", _stored("feature_spread"), 1),),
        top=1.0,
    ),
)


def draw_roadmap(runs: RoadmapRuns) -> Drawing:
    """Return the figure of all runs."""
    arms = runs.arms
    left = label_width(arms) + 0.1
    across = (WIDTH - left - 0.15 - GAP * (len(PANELS) - 1)) / len(PANELS)
    down = ROW * len(arms)
    drawing = sheet(
        "roadmap",
        title="The road from ViT to iLLaMA",
        caption=_caption(runs),
        height=ABOVE + down + BELOW,
    )
    for place, panel in enumerate(PANELS):
        axes = drawing.axes(left + place * (across + GAP), ABOVE, across, down)
        _draw(axes, panel, runs, arms)
        if not place:
            axes.set_yticks(range(len(arms)), arms)
            _mark_isolated(axes, runs, arms)
    labelled = [(label, look) for panel in PANELS for label, _, look in panel.series if label]
    lines = [_line(look) for _, look in labelled]
    add_legend(drawing, lines, [f"rank: {label}" for label, _ in labelled])
    return drawing


def _line(look: int) -> Line2D:
    colour, marker = RUNS[look]
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=4)


def _draw(axes: Axes, panel: Panel, runs: RoadmapRuns, arms: Sequence[str]) -> None:
    axes.set_title(panel.title, size=SMALL, pad=4)
    axes.set_xlabel(panel.unit, size=SMALL)
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    for row, arm in enumerate(arms):
        axes.axhline(row, color=HAIRLINE, linewidth=0.5, zorder=0)
        for _, value, look in panel.series:
            _mark(axes, row, [value(run) for run in runs.of(arm)], *RUNS[look])
    if panel.floor is not None:
        axes.set_xlim(panel.floor, panel.top or axes.get_xlim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(axis="x", labelsize=SMALL)


def _mark(axes: Axes, row: int, values: Sequence[float | None], colour: str, marker: str) -> None:
    """Draw every seed faintly, their mean, and the 95 % interval of the mean."""
    known = [value for value in values if value is not None]
    if not known:
        return
    if len(known) > 1:
        axes.plot(
            known, [row] * len(known), marker, color=colour, markersize=3, alpha=0.35, clip_on=False
        )
        axes.plot(mean_interval(known), [row, row], color=colour, linewidth=1.4)
    axes.plot([fmean(known)], [row], marker, color=colour, markersize=4.5, clip_on=False, zorder=3)


def _mark_isolated(axes: Axes, runs: RoadmapRuns, arms: Sequence[str]) -> None:
    """Write "isolated" at the steps whose class token sees no image."""
    for row, arm in enumerate(arms):
        if all(run.verdict == _ISOLATED for run in runs.of(arm)):
            middle = fmean(axes.get_xlim())
            axes.text(
                middle, row - 0.18, "isolated", size=SMALL, color=TEXT, va="bottom", ha="center"
            )
    axes.tick_params(axis="y", labelcolor=TEXT, color=AXIS)


def _caption(runs: RoadmapRuns) -> str:
    recipe, train, test = (runs.plan[name] for name in ("recipe", "train", "test"))
    best = max(runs.arms, key=lambda arm: fmean(run.values["top1"] or 0 for run in runs.of(arm)))
    isolated = [arm for arm in runs.arms if all(r.verdict == _ISOLATED for r in runs.of(arm))]
    found = f"Isolated class token: {', '.join(isolated)}. " if isolated else ""
    return (
        f"{found}Highest mean top-1: {best}. Size {recipe['size']}, {train['images']:,} training "
        f"images of {train['source']}, {recipe['epochs']} epochs, {test['images']:,} test images; "
        "points are training seeds, bars the 95 % interval of their mean. The last step "
        "is beside the road."
    )
