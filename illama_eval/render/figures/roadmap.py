"""Figure of a roadmap: a row for each step, and three panels that show what each step does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from illama.figure_style import HAIRLINE, MUTED, PAPER, TEXT
from illama_eval.render.figures.canvas import Drawing, grid_of, places_of, sheet
from illama_eval.render.figures.labels import add_legend, label_width, legend_height
from illama_eval.render.style.figure import sheet_width
from illama_eval.render.style.palette import RUNS
from illama_eval.statistics import mean_interval

if TYPE_CHECKING:
    from illama_eval.render.roadmap_runs import RoadmapRun, RoadmapRuns

STEP_NAMES: Mapping[str, str] = {
    "vit": "ViT",
    "swiglu": "+ SwiGLU",
    "rmsnorm": "+ RMSNorm",
    "class-first-causal": "+ causal mask",
    "modified-mask": "or its class row open",
    "post-sequence-class": "+ class token last",
    "rope-only": "+ RoPE for learned",
    "rope-and-learned": "+ RoPE and learned",
    "multiplicative-mask": "+ multiplicative mask",
    "soft-mask": "+ soft mask at first",
    "class-first-multiplicative": "aside: class token first",
}
"""What each step does to the one before; others are called by their names."""
ROW = 0.27
"""Height of a step in inches."""
ABOVE, BELOW, GAP = 0.3, 0.55, 0.15
"""Inches above and below the panels, and between two of them."""
_VALUES = 0.45
"""Inches for the values at the right of a panel."""
_LEAST = 1.35
"""Least width of a panel in inches."""
_ROOM = 0.08
"""Room at both ends of a panel, as a share of the range."""
_ISOLATED = "isolated"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One property: its title with its unit, and what is drawn of a run."""

    title: str
    series: Sequence[tuple[str, Callable[[RoadmapRun], float | None], int]]
    """Label, value of a run, and index of the look; the first is written in numbers."""
    digits: int = 1
    from_zero: bool = False


def _stored(name: str, scale: float = 1) -> Callable[[RoadmapRun], float | None]:
    def value(run: RoadmapRun) -> float | None:
        found = run.values[name]
        return None if found is None else scale * found

    return value


PANELS: Sequence[Panel] = (
    Panel(title="top-1 (%)", series=(("", _stored("top1", 100), 1),)),
    Panel(title="training loss (nats)", series=(("", lambda run: run.train_loss, 1),), digits=2),
    Panel(
        title="rank of attention",
        series=(
            ("map that is used", _stored("rank_used"), 1),
            ("before the mask", _stored("rank_softmax"), 2),
            ("mask laid over it", _stored("rank_masked"), 3),
        ),
        from_zero=True,
    ),
)


def draw_roadmap(runs: RoadmapRuns) -> Drawing:
    """Return the figure of all runs."""
    names = [STEP_NAMES.get(arm, arm.replace("-", " ")) for arm in runs.arms]
    left, down = label_width(names) + 0.1, ROW * len(names)
    columns, rows = grid_of(len(PANELS), left / len(PANELS) + _LEAST + _VALUES, len(PANELS))
    labelled = [(label, look) for panel in PANELS for label, _, look in panel.series if label]
    words = [f"rank: {label}" for label, _ in labelled]
    above, high = legend_height(words) + ABOVE, down + ABOVE + BELOW
    drawing = sheet(
        "roadmap",
        title="The road from ViT to iLLaMA",
        caption=_caption(runs),
        height=above - ABOVE + rows * high,
    )
    across = (sheet_width() - left - GAP * (columns - 1)) / columns
    for panel, (row, column) in zip(PANELS, places_of(len(PANELS), columns), strict=True):
        x, y = left + column * (across + GAP), above + row * high
        axes = drawing.axes(x, y, across - _VALUES, down)
        _draw(axes, panel, runs)
        axes.set_yticks(range(len(names)), names if not column else [""] * len(names))
        if panel is PANELS[0]:
            _name_isolated(axes, runs)
    add_legend(drawing, [_line(look) for _, look in labelled], words)
    return drawing


def _line(look: int) -> Line2D:
    return Line2D([], [], linestyle="", markersize=4, **_look(look))


def _look(look: int) -> dict[str, Any]:
    """Return marker and colour; controls, which are not the first, are hollow."""
    colour, marker = RUNS[look]
    return {"color": colour, "marker": marker, "markerfacecolor": colour if look == 1 else PAPER}


def _draw(axes: Axes, panel: Panel, runs: RoadmapRuns) -> None:
    axes.set_title(panel.title, size="small", pad=4)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0, labelcolor=TEXT)
    axes.spines["left"].set_visible(False)
    axes.set(ylim=(len(runs.arms) - 0.5, -0.5), xlim=_limits(panel, runs))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    for row, arm in enumerate(runs.arms):
        axes.axhline(row, color=HAIRLINE, linewidth=0.5, zorder=0)
        for number, (_, value, look) in enumerate(panel.series):
            known = [each for each in map(value, runs.of(arm)) if each is not None]
            if known:
                _mark(axes, row, known, look)
            if known and not number:
                _write(axes, row, f"{fmean(known):.{panel.digits}f}")


def _limits(panel: Panel, runs: RoadmapRuns) -> tuple[float, float]:
    """Return the range of all runs whose class token sees the image, with some room.

    The others are at chance; on their scale nothing else could be told apart.
    """
    shown = [run for run in runs.runs if run.verdict != _ISOLATED] or list(runs.runs)
    known = [
        each
        for arm in dict.fromkeys(run.arm for run in shown)
        for _, value, _ in panel.series
        for each in _drawn([value(run) for run in shown if run.arm == arm])
    ] or [0.0, 1.0]
    low, high = 0.0 if panel.from_zero else min(known), max(known)
    room = _ROOM * ((high - low) or 1.0)
    return low if panel.from_zero else low - room, high + room


def _drawn(values: Sequence[float | None]) -> list[float]:
    """Return all that is drawn of one step: its seeds, and the ends of their mean's interval."""
    known = [value for value in values if value is not None]
    return [*known, *(mean_interval(known) if len(known) > 1 else ())]


def _mark(axes: Axes, row: int, values: Sequence[float], look: int) -> None:
    """Draw every seed faintly, their mean, and the 95 % interval of the mean.

    A mean beyond the scale is an arrow at its edge.
    """
    low, high = axes.get_xlim()
    mean, style = fmean(values), _look(look)
    if not low <= mean <= high:
        inward = 0.04 * (high - low)
        edge, arrow = (low + inward, "<") if mean < low else (high - inward, ">")
        axes.plot(edge, row, arrow, color=style["color"], markersize=5, zorder=3)
        return
    if len(values) > 1:
        faint = {**style, "markerfacecolor": "none"}
        axes.plot(values, [row] * len(values), linestyle="", markersize=3, alpha=0.45, **faint)
        axes.plot(mean_interval(values), [row, row], color=style["color"], linewidth=1.4)
    axes.plot([mean], [row], linestyle="", markersize=4.5, clip_on=False, zorder=3, **style)


def _name_isolated(axes: Axes, runs: RoadmapRuns) -> None:
    """Write "isolated" in the rows of the steps whose class token sees no image."""
    for row, arm in enumerate(runs.arms):
        if arm in _isolated(runs):
            axes.text(
                0.5,
                row,
                _ISOLATED,
                transform=axes.get_yaxis_transform(),
                size="small",
                color=MUTED,
                ha="center",
                va="bottom",
            )


def _isolated(runs: RoadmapRuns) -> list[str]:
    """Return the steps whose class token sees no image, with any seed."""
    return [arm for arm in runs.arms if all(r.verdict == _ISOLATED for r in runs.of(arm))]


def _write(axes: Axes, row: int, value: str) -> None:
    axes.text(
        1.04,
        row,
        value,
        transform=axes.get_yaxis_transform(),
        size="small",
        color=MUTED,
        va="center_baseline",
    )


def _caption(runs: RoadmapRuns) -> str:
    recipe, train, test = (runs.plan[name] for name in ("recipe", "train", "test"))
    best = max(runs.arms, key=lambda arm: fmean(run.values["top1"] or 0 for run in runs.of(arm)))
    isolated = _isolated(runs)
    found = (
        f"Isolated, its class token sees no image: {', '.join(isolated)} (arrows: off the scale). "
        if isolated
        else ""
    )
    return (
        f"{found}Highest mean top-1: {best}. Size {recipe['size']}, {train['images']:,} training "
        f"images of {train['source']}, {recipe['epochs']} epochs, {test['images']:,} test images. "
        "Pale points: training seeds; bars: 95 % interval of their mean; numbers: means, of rank "
        "those of the used map. The last step is beside the road."
    )
