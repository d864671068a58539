"""Figure of quantized models: accuracy and SQNR against the size of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from illama.figure_style import AXIS, HAIRLINE, MUTED, PAPER, TEXT
from illama_eval.compare.change import Change
from illama_eval.render.figures.canvas import MARGIN, Drawing, sheet
from illama_eval.render.figures.labels import add_legend, label_width, legend_height, spread
from illama_eval.render.format.numbers import show_row
from illama_eval.render.select import headline
from illama_eval.render.style.figure import LINE, SMALL
from illama_eval.render.style.fonts import POINTS, drawable
from illama_eval.render.style.palette import RUNS as LOOKS
from illama_eval.results import Row, Run

Changes = Mapping[str, Change]
"""The paired change of top-1 from the exact model, by quantized model."""

_LABEL = "Post-training quantization; the paper's figures are of quantization-aware training."
_FEWEST = 3
"""Quantized models from which they are drawn."""
_HIGH = 2.2
"""Height of a panel in inches."""
_SAME = 0.01
"""Share by which files of one size may differ: their headers do."""
_MB = 1e6
_LEFT = 0.75
"""Inches at the left of a panel."""
_EXACT: Mapping[str, Any] = {"color": AXIS, "linewidth": 0.9, "dashes": (4, 3)}
"""The line of the exact model."""
_GAP = SMALL * LINE / POINTS / _HIGH
"""Share of a panel's height between two names."""
_ROOM = 0.05
"""Room at both ends of the horizontal axis, as a share of the range."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in a panel; numbers in percent or dB."""

    label: str
    size: float
    """MB"""
    value: float
    low: float | None = None
    high: float | None = None
    """Ends of the bar: around the exact model's value where the difference is paired."""
    simulated: bool = False
    worse: bool = False
    """Whether the paired interval shows that it is worse than the exact model."""


def draw_sizes(run: Run, changes: Changes | None = None) -> Iterator[Drawing]:
    """Yield two panels, top-1 and SQNR of the logits against the bytes of the file.

    With `changes`, bars are paired intervals around the exact model's accuracy.
    """
    exact = _exact(run)
    panels = {
        "top-1 accuracy (%)": points_of(run, "accuracy", "top1", changes or {}),
        "SQNR of the logits (dB)": points_of(run, "agreement", "logit_sqnr", {}),
        "SQNR of the features (dB)": points_of(run, "feature_agreement", "feature_sqnr", {}),
    }
    panels = {label: points for label, points in panels.items() if len(points) >= _FEWEST}
    if not panels:
        return
    keys = _legend(exact, [point for points in panels.values() for point in points])
    above = legend_height(list(keys)) + MARGIN
    drawing = sheet(
        "agreement_by_size",
        title="What the bytes of the file buy",
        caption=_caption(exact, next(iter(panels.values())), paired=bool(changes)),
        height=above + len(panels) * (_HIGH + 0.55),
    )
    for place, (label, points) in enumerate(panels.items()):
        across = drawing.size[0] - _LEFT - MARGIN
        axes = drawing.axes(_LEFT, above + place * (_HIGH + 0.55), across, _HIGH)
        if exact is not None and exact.value is not None and label.startswith("top-1"):
            axes.axhline(100 * exact.value, zorder=1, **_EXACT)
        _draw_panel(axes, points, across)
        axes.set(xlabel="size of the file (MB)", ylabel=label)
    add_legend(drawing, list(keys.values()), list(keys))
    yield drawing


def _legend(exact: Row | None, points: Sequence[Point]) -> dict[str, Artist]:
    """Return what marks and lines mean, as far as they are drawn."""
    colour, marker = LOOKS[1]
    mark: dict[str, Any] = {"marker": marker, "markersize": 4, "linestyle": "none"}
    keys: dict[str, Artist] = {}
    if exact is not None:
        keys[f"fp32, {show_row(exact).value} %"] = Line2D([], [], **_EXACT)
    if any(not point.simulated for point in points):
        keys["integer arithmetic"] = Line2D([], [], color=colour, **mark)
    if any(point.simulated for point in points):
        keys["simulated"] = Line2D([], [], color=colour, markerfacecolor=PAPER, **mark)
    if any(point.worse for point in points):
        keys["clearly worse than fp32"] = Line2D([], [], color=MUTED, **mark)
    return keys


def _exact(run: Run) -> Row | None:
    """Return the top-1 of the model that the others were made from."""
    subjects = run.header.get("subjects", [])
    names = [each["name"] for each in subjects if not each.get("quantization")]
    return headline(run, "accuracy", "top1", names[0]) if names else None


def points_of(run: Run, study: str, metric: str, changes: Changes) -> list[Point]:
    """Return every quantized model with its size and its number, the smallest first."""
    found = []
    for each in run.header.get("subjects", []):
        record, row = each.get("quantization"), headline(run, study, metric, each["name"])
        if record and row is not None and row.value is not None:
            scale = 100.0 if row.unit == "fraction" else 1.0
            low, high = _ends(row, changes.get(each["name"]))
            point = Point(
                label=drawable(each["name"].rpartition("+")[2], 28),
                size=record["bytes"]["total"] / _MB,
                value=scale * row.value,
                low=None if low is None else scale * low,
                high=None if high is None else scale * high,
                simulated=record["simulated"],
                worse=_is_worse(changes.get(each["name"])),
            )
            found.append(point)
    return sorted(found, key=lambda point: (point.size, -point.value))


def _ends(row: Row, change: Change | None) -> tuple[float | None, float | None]:
    """Return the ends of a bar: the paired interval around the exact model, or the row's own."""
    if change is None or change.baseline is None or change.low is None or change.high is None:
        return row.low, row.high
    return change.baseline + change.low, change.baseline + change.high


def _is_worse(change: Change | None) -> bool:
    return change is not None and change.finding == "worse"


def same_size(first: Point, second: Point) -> bool:
    """Return whether two files are of one size but for their headers."""
    return abs(first.size - second.size) <= _SAME * first.size


def _draw_panel(axes: Axes, points: Sequence[Point], across: float) -> None:
    for point in points:
        marker = LOOKS[1][1]
        colour = MUTED if point.worse else LOOKS[1][0]
        if point.low is not None and point.high is not None:
            axes.vlines(point.size, point.low, point.high, color=colour, linewidth=0.9, zorder=2)
        axes.plot(
            point.size,
            point.value,
            marker=marker,
            color=colour,
            markerfacecolor=PAPER if point.simulated else colour,
            markersize=4,
            linestyle="none",
            zorder=3,
        )
    sizes = [point.size for point in points]
    reach = (max(sizes) - min(sizes)) or 0.1
    names = label_width(point.label for point in points) / across
    room = _ROOM * reach
    axes.set_xlim(min(sizes) - room, max(sizes) + room + reach * names / (1 - names))
    for group in _apart(axes, _groups(points), across):
        _label(axes, group)


def _groups(points: Sequence[Point]) -> list[list[Point]]:
    """Return points of about the same size together, the smallest first."""
    groups: list[list[Point]] = []
    for point in points:
        if groups and same_size(groups[-1][0], point):
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _apart(axes: Axes, groups: Sequence[list[Point]], across: float) -> list[list[Point]]:
    """Return the groups, those together whose names would touch beside each other."""
    left, right = axes.get_xlim()
    apart: list[list[Point]] = []
    for each in groups:
        group = each
        while apart:
            end = _beside(axes, apart[-1]) + (right - left) / across * label_width(
                point.label for point in apart[-1]
            )
            if end < group[0].size or not _meet(axes, apart[-1], group):
                break
            group = apart.pop() + group
        apart.append(group)
    return apart


def _meet(axes: Axes, first: Sequence[Point], second: Sequence[Point]) -> bool:
    """Return whether the names of two groups are at some of the same heights."""
    heights = [_heights(axes, group) for group in (first, second)]
    return any(abs(one - other) < _GAP for one in heights[0] for other in heights[1])


def _heights(axes: Axes, group: Sequence[Point]) -> list[float]:
    """Return the heights of a group's names in ascending order, as shares of the panel."""
    low, high = axes.get_ylim()
    return spread(sorted((point.value - low) / (high - low) for point in group), _GAP)


def _beside(axes: Axes, group: Sequence[Point]) -> float:
    """Return where the names of a group begin on the horizontal axis."""
    left, right = axes.get_xlim()
    return max(point.size for point in group) + 0.03 * (right - left)


def _label(axes: Axes, group: Sequence[Point]) -> None:
    """Write the names of points below each other, each with a line to its point."""
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    ordered = sorted(group, key=lambda point: (point.value, -point.size))
    x = _beside(axes, group)
    for point, height in zip(ordered, _heights(axes, group), strict=True):
        y = low + height * (high - low)
        axes.plot([point.size, x], [point.value, y], color=HAIRLINE, linewidth=0.6, zorder=0)
        axes.text(
            x,
            y,
            f" {point.label}",
            size="small",
            va="center_baseline",
            color=MUTED if point.worse else TEXT,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},
        )
    axes.set(xlim=(left, right), ylim=(low, high))


def _caption(exact: Row | None, points: Sequence[Point], *, paired: bool) -> str:
    against = f"fp32: top-1 {show_row(exact).full}." if exact is not None else ""
    hollow = "Hollow: simulated, dequantized and multiplied in floating point."
    if not paired:
        bars = "Bars: 95 % intervals of each model alone, which do not tell two models apart."
        return f"{_LABEL} {against} {hollow} {bars}".replace("  ", " ")
    held = [point for point in points if not point.worse]
    small = f"{held[0].label}, {held[0].size:.3g} MB" if held else "none"
    return (
        f"{_LABEL} {against} Smallest file that is not clearly worse: "
        f"{small}. {hollow} Bars of top-1: 95 % interval of the paired difference, laid around "
        "fp32's (broken line); grey: clearly worse than it. Two quantized models are not compared "
        "with each other here."
    )
