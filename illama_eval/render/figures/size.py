"""Accuracy and signal to noise against the size of the file, the best of each size marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from illama_eval.render.canvas import LINE, SMALL, Drawing, sheet, spread
from illama_eval.render.font import POINTS, drawable
from illama_eval.render.palette import AXIS, HAIRLINE, MUTED, PAPER, TEXT
from illama_eval.render.palette import RUNS as LOOKS
from illama_eval.render.select import headline
from illama_eval.results import Row, Run

_FEWEST = 3
"""Quantized models from which a figure says more than a table."""
_HIGH, _ACROSS = 2.2, 6.2
"""Size of a panel in inches."""
_SAME = 0.01
"""Share by which files of one size may differ: headers tell of calibration."""
_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in a panel."""

    label: str
    size: float
    """MB"""
    row: Row
    simulated: bool

    @property
    def value(self) -> float:
        """The number that is drawn: percent, or dB."""
        return (self.row.value or 0.0) * (100 if self.row.unit == "fraction" else 1)


def draw_sizes(run: Run) -> Iterator[Drawing]:
    """Yield two panels, top-1 and SQNR of the logits against the bytes of the file."""
    panels = {
        "top-1 accuracy (%)": points_of(run, "accuracy", "top1"),
        "SQNR of the logits (dB)": points_of(run, "agreement", "logit_sqnr"),
    }
    panels = {label: points for label, points in panels.items() if len(points) >= _FEWEST}
    if not panels:
        return
    best = {label: pareto(points) for label, points in panels.items()}
    found = "; ".join(
        f"{label.split(' (')[0]}: {', '.join(point.label for point in front)}"
        for label, front in best.items()
    )
    drawing = sheet(
        "agreement_by_size",
        title="What the bytes of the file buy",
        caption=f"PTQ; the paper's figures are QAT. No smaller file is better than those on the "
        f"line ({found}). Hollow: simulated, dequantized and multiplied in floating point. Bars: "
        "95 % intervals over images; differences between points are paired and narrower (table).",
        height=len(panels) * (_HIGH + 0.55),
    )
    for place, (label, points) in enumerate(panels.items()):
        axes = drawing.axes(0.6, 0.1 + place * (_HIGH + 0.55), _ACROSS, _HIGH)
        _draw_panel(axes, points, best[label])
        axes.set(xlabel="size of the file (MB)", ylabel=label)
    yield drawing


def points_of(run: Run, study: str, metric: str) -> list[Point]:
    """Return every quantized model with its size and its number, the smallest first."""
    found = []
    for each in run.header.get("subjects", []):
        record, row = each.get("quantization"), headline(run, study, metric, each["name"])
        if record and row is not None and row.value is not None:
            label = each["name"].rpartition("+")[2]
            size = record["bytes"]["total"] / _MB
            point = Point(label=drawable(label, 28), size=size, row=row,
                          simulated=record["simulated"])  # fmt: skip
            found.append(point)
    return sorted(found, key=lambda point: (point.size, -point.value))


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no smaller or equal one is as good as, the smallest first."""
    front: list[Point] = []
    for group in _groups(sorted(points, key=lambda point: point.size)):
        best = max(group, key=lambda point: point.value)
        if not front or best.value > front[-1].value:
            front.append(best)
    return front


def same_size(first: Point, second: Point) -> bool:
    """Return whether two files differ in their headers at most."""
    return abs(first.size - second.size) <= _SAME * first.size


def _draw_panel(axes: Axes, points: Sequence[Point], front: Sequence[Point]) -> None:
    colour, marker = LOOKS[1]
    axes.plot([p.size for p in front], [p.value for p in front], color=AXIS, linewidth=1.0,
              drawstyle="steps-post", zorder=1)  # fmt: skip
    for point in points:
        scale = 100 if point.row.unit == "fraction" else 1
        if point.row.low is not None and point.row.high is not None:
            axes.plot([point.size] * 2, [scale * point.row.low, scale * point.row.high],
                      color=colour, linewidth=0.8, zorder=2)  # fmt: skip
        inside = "none" if point.simulated else colour
        axes.plot(point.size, point.value, marker=marker, color=colour, markerfacecolor=inside,
                  markersize=4, linestyle="none", zorder=3)  # fmt: skip
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.22 * (high - low))
    for group in _groups(points):
        _label(axes, group, front)


def _groups(points: Sequence[Point]) -> list[list[Point]]:
    """Return points of about the same size together, the smallest first."""
    groups: list[list[Point]] = []
    for point in points:
        if groups and same_size(groups[-1][0], point):
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _label(axes: Axes, group: Sequence[Point], front: Sequence[Point]) -> None:
    """Write the names of points of one size below each other, a hair from each to its point."""
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    ordered = sorted(group, key=lambda point: point.value)
    gap = SMALL * LINE / POINTS / _HIGH
    heights = spread([(point.value - low) / (high - low) for point in ordered], gap)
    x = group[0].size + 0.035 * (right - left)
    for point, height in zip(ordered, heights, strict=True):
        y = low + height * (high - low)
        axes.plot([point.size, x], [point.value, y], color=HAIRLINE, linewidth=0.6, zorder=0)
        axes.text(x, y, f" {point.label}", size=SMALL, va="center_baseline",
                  color=TEXT if point in front else MUTED,
                  bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5})  # fmt: skip
