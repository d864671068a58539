"""Figure of one model over a range of something: a panel for each property."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from illama.figure_style import AXIS, MUTED, PAPER, TEXT
from illama_eval.compare.change import Change
from illama_eval.render.figures.canvas import MARGIN, Drawing, grid_of, places_of, sheet
from illama_eval.render.format.glossary import map_label, metric_label
from illama_eval.render.models import ReportModels
from illama_eval.render.style.palette import RUNS
from illama_eval.results import Row

PROPERTIES = (
    ("accuracy", "top1"),
    ("calibration", "ece"),
    ("rank", "rank_of_mean_map"),
    ("rank", "rank_per_image"),
    ("collapse", "reach"),
    ("collapse", "similarity"),
    ("collapse", "entropy_share"),
    ("agreement", "flips"),
)
"""(study, metric) of the panels, as far as they were measured."""
_COLUMNS, _LEAST = 2, 2.8
"""Most panels side by side, and their least width with all labels in inches."""
_DOWN = 1.25
"""Height of a panel in inches."""
_LABELS, _ABOVE, _BELOW = 0.62, 0.3, 0.3
"""Inches that a panel's labels take at its left, above and below it."""
_NAMES = {"soft_mask": "soft mask", "image_size": "input size (pixels)", "epoch": "epoch"}
_SAME = 1e-6
"""Values that differ by less are drawn as equal."""
_EDGE, _NAME = 0.04, 0.16
"""Room at both ends of a panel, and above a line for its name, as shares of the range."""
_COLOUR, _MARKER = RUNS[1][0], "o"
_BEHIND = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
"""What keeps lines off the words in a panel."""
_CONTROLS = {"softmax": ":", "masked": "--"}
"""Maps that a rank is compared with, and their dashes."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One property at one value."""

    x: float
    row: Row
    low: float | None
    high: float | None
    """Ends of the bar, in the row's unit: paired with the reference where there is one."""


def draw_series(models: ReportModels) -> Iterator[Drawing]:
    """Yield the panels of a sweep or a trajectory; nothing for other runs."""
    variable = models.run.header.get("variable")
    if not isinstance(variable, Mapping) or not isinstance(variable.get("values"), Mapping):
        return
    panels = [(key, _points(models, variable, key)) for key in PROPERTIES]
    shown = [(key, points) for key, points in panels if len(points) > 1]
    if not shown:
        return
    columns, rows = grid_of(len(shown), _LEAST, _COLUMNS)
    soft = _soft_masks(models, variable)
    height = rows * (_DOWN + _ABOVE + _BELOW) + 0.2
    drawing = sheet(
        "series", title=_title(variable), caption=_caption(variable, soft), height=height
    )
    across = drawing.size[0] / columns
    for number, (down, column) in enumerate(places_of(len(shown), columns)):
        key, points = shown[number]
        x, y = MARGIN + _LABELS + column * across, _ABOVE + down * (_DOWN + _ABOVE + _BELOW)
        axes = drawing.axes(x, y, across - _LABELS - 2 * MARGIN, _DOWN)
        _panel(axes, key, points, variable)
        _draw_controls(axes, models, variable, key, {p.x: p.row.value or 0.0 for p in points})
        if soft:
            _draw_soft_mask(axes, soft)
        if number >= len(shown) - columns:
            axes.set_xlabel(_name(variable), size="small")
    yield drawing


def _points(models: ReportModels, variable: Mapping[str, Any], key: tuple[str, str]) -> list[Point]:
    """Return the defined values in ascending order of what varies."""
    rows = models.headline.get(key, {})
    reference = str(variable.get("reference") or "")
    own = rows.get(reference)
    points = []
    for subject, value in variable["values"].items():
        row = rows.get(subject)
        if row is None or row.value is None:
            continue
        low, high = row.low, row.high
        if own is not None and own.value is not None:
            change = models.change(reference, subject, *key)
            low, high = _paired(own.value, change)
        points.append(Point(x=float(value), row=row, low=low, high=high))
    return sorted(points, key=lambda point: point.x)


def _paired(own: float, change: Change | None) -> tuple[float | None, float | None]:
    """Return the ends of the paired interval of a difference, laid around the reference's value."""
    if change is None or change.low is None or change.high is None:
        return None, None
    return own + change.low, own + change.high


def _panel(
    axes: Axes, key: tuple[str, str], points: Sequence[Point], variable: Mapping[str, Any]
) -> None:
    scale = 100.0 if points[0].row.unit == "fraction" else 1.0
    x, y = [point.x for point in points], [scale * (point.row.value or 0.0) for point in points]
    axes.plot(x, y, color=_COLOUR, marker=_MARKER, markersize=3, linewidth=1.2)
    for point in points:
        if point.low is not None and point.high is not None:
            ends = [scale * point.low, scale * point.high]
            axes.plot([point.x, point.x], ends, color=_COLOUR, linewidth=1.0)
    own = next((p for p in points if p.row.subject == variable.get("reference")), None)
    if own is not None and own.row.value is not None:
        axes.axhline(scale * own.row.value, color=AXIS, linewidth=0.6)
        axes.plot(own.x, scale * own.row.value, "o", color=_COLOUR, mfc="white", markersize=5)
    if max(y) - min(y) < _SAME * scale:
        middle, reach = (max(y) + min(y)) / 2, 0.02 * scale
        inside = 0 <= middle <= scale  # a share stays one: no axis above 100 %
        ends = [scale * end for p in points for end in (p.low, p.high) if end is not None]
        low, high = min([middle - reach, *ends]), max([middle + reach, *ends])
        axes.set_ylim(max(0, low) if inside else low, min(scale, high) if inside else high)
        axes.text(
            0.5,
            0.78,
            "the same everywhere",
            transform=axes.transAxes,
            size="small",
            color=MUTED,
            ha="center",
            bbox=_BEHIND,
        )
    unit = " (%)" if scale != 1 else ""
    since = " since the first" if key[1] == "flips" and not variable.get("reference") else ""
    axes.set_title(metric_label(key[1]) + since + unit, size="small", color=TEXT)
    first, last = min(variable["values"].values()), max(variable["values"].values())
    room = _EDGE * (last - first)
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _draw_controls(
    axes: Axes,
    models: ReportModels,
    variable: Mapping[str, Any],
    key: tuple[str, str],
    used: Mapping[float, float],
) -> None:
    """Draw other maps of the same model dashed, named at the end that is farther from its own."""
    for kind, dashes in _CONTROLS.items():
        found = {
            row.subject: row.value
            for row in models.run.rows
            if (row.study, row.metric) == key and row.at == {"map": kind} and row.value is not None
        }
        line = sorted((float(variable["values"][name]), value) for name, value in found.items())
        if len(line) > 1:
            axes.plot(*zip(*line, strict=True), color=MUTED, linestyle=dashes, linewidth=1.0)
            ends = (line[0], line[-1])
            x, y = max(ends, key=lambda end: abs(end[1] - used.get(end[0], end[1])))
            axes.annotate(
                map_label(kind),
                (x, y),
                xytext=(0, 3),
                textcoords="offset points",
                ha="left" if (x, y) == line[0] else "right",
                size="small",
                color=MUTED,
                bbox=_BEHIND,
            )
            _keep_room(axes, y)


def _keep_room(axes: Axes, y: float) -> None:
    """Raise the upper end of a panel, if a name above this height would leave it."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, y + _NAME * (high - low)))


def _draw_soft_mask(axes: Axes, soft: Sequence[tuple[float, float]]) -> None:
    """Draw the soft mask as grey steps behind the panel, 0 at its lower edge, 1 at its upper."""
    beside = axes.twinx()
    x, y = [each for each, _ in soft], [value for _, value in soft]
    beside.fill_between(x, y, step="pre", color=MUTED, alpha=0.12, linewidth=0)
    beside.set(ylim=(0, 1), yticks=())
    beside.grid(visible=False)
    beside.spines[:].set_visible(False)
    beside.set_zorder(axes.get_zorder() - 1)
    axes.patch.set_visible(False)


def _soft_masks(models: ReportModels, variable: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the soft mask of each epoch, where the epochs are what varies and it was not 0."""
    if variable.get("name") != "epoch":
        return []
    values = variable["values"]
    found = [
        (float(values[model.name]), float(model.described.get("soft_mask") or 0.0))
        for model in models
        if model.name in values
    ]
    return sorted(found) if any(soft for _, soft in found) else []


def _name(variable: Mapping[str, Any]) -> str:
    name = str(variable.get("name"))
    return _NAMES.get(name, name.replace("_", " "))


def _title(variable: Mapping[str, Any]) -> str:
    return f"What changes with the {_name(variable).split(' (')[0]}"


def _caption(variable: Mapping[str, Any], soft: Sequence[object]) -> str:
    if variable.get("reference"):
        bars = (
            "Ring and grey line: the checkpoint as it is. Bars: 95 % interval of the paired "
            "difference to it, so a bar that does not touch the line shows a difference."
        )
    else:
        bars = "Bars: 95 % interval over the images of each point alone."
    shade = (
        " Grey area: the soft mask that each epoch was trained and is measured with, from 0 "
        "(causal) at the lower edge to 1 (bidirectional) at the upper."
        if soft
        else ""
    )
    return bars + shade
