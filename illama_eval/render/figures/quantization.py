"""Figures of a quantization: accuracy and SQNR by file size, and sensitivity by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap

from illama_eval.render.figures.canvas import LINE, SMALL, Drawing, sheet, spread
from illama_eval.render.select import Array, headline, images_of, rows_at, subjects_of
from illama_eval.render.style.fonts import POINTS, drawable
from illama_eval.render.style.palette import (
    AXIS,
    HAIRLINE,
    MUTED,
    ON_SEQUENTIAL,
    PAPER,
    SEQUENTIAL,
    TEXT,
)
from illama_eval.render.style.palette import RUNS as LOOKS
from illama_eval.results import Row, Run

_FEWEST = 3
"""Quantized models from which they are drawn."""
_HIGH, _ACROSS = 2.2, 6.2
"""Height and width of a panel in inches."""
_SAME = 0.01
"""Share by which files of one size may differ: their headers do."""
_MB = 1e6
_CELL_WIDTH, _CELL_HEIGHT = 0.95, 0.19
"""Size of a cell of the sensitivity map in inches."""


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
            point = Point(
                label=drawable(label, 28), size=size, row=row, simulated=record["simulated"]
            )
            found.append(point)
    return sorted(found, key=lambda point: (point.size, -point.value))


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that are better than all smaller ones, the smallest first."""
    front: list[Point] = []
    for group in _groups(sorted(points, key=lambda point: point.size)):
        best = max(group, key=lambda point: point.value)
        if not front or best.value > front[-1].value:
            front.append(best)
    return front


def same_size(first: Point, second: Point) -> bool:
    """Return whether two files are of one size but for their headers."""
    return abs(first.size - second.size) <= _SAME * first.size


def _draw_panel(axes: Axes, points: Sequence[Point], front: Sequence[Point]) -> None:
    colour, marker = LOOKS[1]
    axes.plot(
        [p.size for p in front],
        [p.value for p in front],
        color=AXIS,
        linewidth=1.0,
        drawstyle="steps-post",
        zorder=1,
    )
    for point in points:
        scale = 100 if point.row.unit == "fraction" else 1
        if point.row.low is not None and point.row.high is not None:
            axes.plot(
                [point.size] * 2,
                [scale * point.row.low, scale * point.row.high],
                color=colour,
                linewidth=0.8,
                zorder=2,
            )
        inside = "none" if point.simulated else colour
        axes.plot(
            point.size,
            point.value,
            marker=marker,
            color=colour,
            markerfacecolor=inside,
            markersize=4,
            linestyle="none",
            zorder=3,
        )
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
    """Write the names of points of one size below each other, each with a line to its point."""
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    ordered = sorted(group, key=lambda point: point.value)
    gap = SMALL * LINE / POINTS / _HIGH
    heights = spread([(point.value - low) / (high - low) for point in ordered], gap)
    x = group[0].size + 0.035 * (right - left)
    for point, height in zip(ordered, heights, strict=True):
        y = low + height * (high - low)
        axes.plot([point.size, x], [point.value, y], color=HAIRLINE, linewidth=0.6, zorder=0)
        axes.text(
            x,
            y,
            f" {point.label}",
            size=SMALL,
            va="center_baseline",
            color=TEXT if point in front else MUTED,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},
        )


def draw_sensitivity(run: Run) -> Iterator[Drawing]:
    """Yield the mean divergence of each layer and kind, for every scheme that was tried."""
    for subject in subjects_of(run):
        every = run.by_metric.get((subject, "sensitivity", "kl"), ())
        for scheme in dict.fromkeys(row.at.get("scheme") for row in every):
            if isinstance(scheme, str):
                keys = ("layer", "kind")
                rows = rows_at(run, "sensitivity", "kl", subject, keys, scheme=scheme)
                if rows:
                    yield _draw_map(run, rows, scheme)


def _draw_map(run: Run, rows: Sequence[Row], scheme: str) -> Drawing:
    kinds = list(dict.fromkeys(str(row.at["kind"]) for row in rows))
    grid = np.full((max(int(row.at["layer"]) for row in rows), len(kinds)), np.nan)
    for row in rows:
        value = np.nan if row.value is None else max(row.value, 0.0)
        grid[int(row.at["layer"]) - 1, kinds.index(str(row.at["kind"]))] = value
    layers = len(grid)
    drawing = sheet(
        f"sensitivity_{scheme}",
        title=f"Divergence of the logits when one layer alone is {scheme}",
        caption=f"{_finding(grid, kinds)} Mean KL(exact || swapped) in millinats over "
        f"{images_of(run, 'sensitivity')}; every colour is a step of the same factor.",
        height=layers * _CELL_HEIGHT + 0.75,
        width=max(4.6, len(kinds) * _CELL_WIDTH + 0.8),
    )
    axes = drawing.axes(0.5, 0.4, len(kinds) * _CELL_WIDTH, layers * _CELL_HEIGHT)
    norm = _scale(grid)
    axes.pcolormesh(
        np.arange(len(kinds) + 1),
        np.arange(layers + 1) + 0.5,
        np.ma.masked_invalid(grid),
        cmap=ListedColormap(SEQUENTIAL),
        norm=norm,
        edgecolor=PAPER,
        linewidth=0.8,
    )
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.set_yticks(range(1, layers + 1))
    axes.set_xticks(np.arange(len(kinds)) + 0.5, kinds)
    axes.tick_params(length=0)
    axes.set(ylabel="layer")
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (layer, kind), value in np.ndenumerate(grid):
        if np.isfinite(value):
            colour = ON_SEQUENTIAL[int(np.clip(norm(value), 0, len(SEQUENTIAL) - 1))]
            axes.text(
                kind + 0.5,
                layer + 1,
                f"{1e3 * value:.3g}",
                color=colour,
                size=SMALL,
                ha="center",
                va="center_baseline",
            )
    return drawing


def _scale(grid: Array) -> BoundaryNorm:
    """Return steps of one factor from the least divergence to the largest."""
    known = grid[np.isfinite(grid) & (grid > 0)]
    low, high = (known.min(), known.max()) if known.size else (1e-6, 1.0)
    high = max(high, low * 1.01)
    edges = np.geomspace(low, high, len(SEQUENTIAL) + 1)
    return BoundaryNorm(list(map(float, edges)), len(SEQUENTIAL), clip=True)


def _finding(grid: Array, kinds: Sequence[str]) -> str:
    known = np.isfinite(grid)
    if not known.any():
        return "No divergence is defined."
    layer, kind = map(
        int, np.unravel_index(np.argmax(np.where(known, grid, -math.inf)), grid.shape)
    )
    share = grid[layer, kind] / grid[known].sum() if grid[known].sum() else 0.0
    return (
        f"Most sensitive: {kinds[kind]} in layer {layer + 1}, {share:.0%} of the sum over "
        f"{int(known.sum())} places."
    )
