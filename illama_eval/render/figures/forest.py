"""Figure of many models: their headline numbers as points with intervals, a row for each model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from illama.figure_style import MUTED, TEXT
from illama_eval.render.figures.canvas import MARGIN, Drawing, places_of, sheet
from illama_eval.render.figures.labels import label_width
from illama_eval.render.format.escape import break_name
from illama_eval.render.format.glossary import metric_label
from illama_eval.render.models import ReportModel, ReportModels
from illama_eval.render.style.figure import sheet_width
from illama_eval.render.style.fonts import drawable
from illama_eval.render.style.palette import RUNS
from illama_eval.results import Row

FEWEST = 3
"""Models from which a row for each says more than a table."""
METRICS = (
    ("accuracy", "top1"),
    ("calibration", "ece"),
    ("rank", "rank_of_mean_map"),
    ("shape_bias", "shape_bias"),
    ("segmentation", "miou_whole"),
    ("agreement", "flips"),
    ("rank", "rank_per_image"),
    ("accuracy", "nll"),
)
"""(study, metric) of the panels: the first that were measured."""
_PANELS, _LEAST = 4, 1.2
"""Most panels, and their least width in inches."""
_ROW, _LINE = 0.24, 0.13
"""Inches per model, and for each further line of its name."""
_GAP, _ABOVE, _BELOW = 0.22, 0.3, 0.3
"""Inches between panels, and above and below them."""
_LONGEST = 34
"""Characters of a line of a name."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One number of one model."""

    place: int
    row: Row
    clear: bool
    """Whether it differs from the first model's by the paired interval."""


def draw_forest(models: ReportModels) -> Iterator[Drawing]:
    """Yield a panel per headline number with a row per model; nothing for fewer than three."""
    panels = [(key, _marks(models, key)) for key in METRICS]
    shown = [(key, marks) for key, marks in panels if len(marks) > 1][:_PANELS]
    if len(models) < FEWEST or not shown or models.run.header.get("variable"):
        return
    yield _draw(models, shown)


def _draw(models: ReportModels, shown: Sequence[tuple[tuple[str, str], Sequence[Mark]]]) -> Drawing:
    names = [_name_of(models, model) for model in models]
    most_lines = max(len(name.split("\n")) for name in names)
    left = MARGIN + label_width("\n".join(names).split("\n"))
    room = sheet_width() - left - MARGIN + _GAP
    least = max(_LEAST, *(label_width([_title(key[1], marks)]) + _GAP for key, marks in shown))
    columns = min(len(shown), max(1, int(room / least)))
    height = (_ROW + _LINE * (most_lines - 1)) * len(models)
    down = height + _ABOVE + _BELOW
    paired = any(mark.clear for _, marks in shown for mark in marks)
    drawing = sheet(
        "forest",
        title=f"{len(models)} models side by side",
        caption=_caption(models, paired=paired),
        height=-(-len(shown) // columns) * down + 0.1,
    )
    across = room / columns
    for ((_, metric), marks), (row, column) in zip(
        shown, places_of(len(shown), columns), strict=True
    ):
        axes = drawing.axes(left + column * across, _ABOVE + row * down, across - _GAP, height)
        _panel(axes, metric, marks, len(models))
        if not column:
            axes.set_yticks(range(len(names)), names, color=TEXT, size="small")
    return drawing


def _name_of(models: ReportModels, model: ReportModel) -> str:
    """Return a model's name in lines, the last of them on its images if they are not everyone's."""
    lines = break_name(drawable(model.label), _LONGEST)
    if len(models.sources) > 1:
        lines += break_name(drawable(f"on {model.images}"), _LONGEST)
    return "\n".join(lines)


def _marks(models: ReportModels, key: tuple[str, str]) -> list[Mark]:
    rows = models.headline.get(key, {})
    first, *_ = models
    found = []
    for place, model in enumerate(models):
        row = rows.get(model.name)
        if row is None or row.value is None:
            continue
        change = models.change(first.name, model.name, *key) if place else None
        found.append(Mark(place=place, row=row, clear=change is not None and bool(change.finding)))
    return found


def _panel(axes: Axes, metric: str, marks: Sequence[Mark], models: int) -> None:
    scale = 100.0 if marks[0].row.unit == "fraction" else 1.0
    colour = RUNS[1][0]
    for mark in marks:
        shade = colour if mark.clear or mark.place == 0 else MUTED
        row = mark.row
        if row.low is not None and row.high is not None:
            axes.plot([scale * row.low, scale * row.high], [mark.place] * 2, color=shade)
        face = "white" if mark.place == 0 else shade
        axes.plot(
            scale * (row.value or 0.0), mark.place, "o", color=shade, mfc=face, markersize=4.5
        )
    if marks[0].place == 0:
        axes.axvline(scale * (marks[0].row.value or 0.0), color=colour, linewidth=0.5, alpha=0.6)
    axes.set(ylim=(models - 0.5, -0.5), yticks=())
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_title(_title(metric, marks), size="small", color=TEXT)


def _title(metric: str, marks: Sequence[Mark]) -> str:
    """Return a panel's metric with its unit."""
    return metric_label(metric) + (" (%)" if marks[0].row.unit == "fraction" else "")


def _caption(models: ReportModels, *, paired: bool) -> str:
    first, *_ = models
    words = "Bars: 95 % interval of each model alone, where there is one."
    if models.apart:
        return f"{words} The models were measured on different images or in different ways."
    blue = "Blue: differs from it" if paired else "No model differs from it"
    return (
        f"{words} Ring and line: {drawable(first.label)}. {blue} by the paired interval, "
        "adjusted for the number of metrics; overlapping bars do not tell."
    )
