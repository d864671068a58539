"""Panels of numbers against the layer, or another place from 1, with one legend for all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from illama.figure_style import TEXT
from illama_eval.render.figures.canvas import BAND, Drawing, grid_of, places_of, sheet
from illama_eval.render.figures.labels import add_legend, drawn_once, label_layers, legend_height
from illama_eval.render.select import Array, rows_at
from illama_eval.results import Row, Run

_DOWN = 1.75
"""Height of a panel in inches."""
_LEAST = 2.2
"""Least width of a panel with its labels in inches."""
_FEW_TICKS = 8


@dataclass(frozen=True, kw_only=True)
class Line:
    """Numbers of one subject by place, [place] each, NaN where undefined."""

    name: str
    colour: str
    marker: str
    values: Array
    low: Array
    high: Array


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One metric against the layer, or another place."""

    title: str
    label: str
    """Of the vertical axis."""
    lines: Sequence[Line]
    scale: float = 100
    """100 for shares in percent."""
    floor: float | None = 0
    """Where the axis begins; None leaves it to the numbers."""
    along: str = "layer"
    """Of the horizontal axis."""


def line_of(
    run: Run,
    study: str,
    metric: str,
    subject: str,
    look: tuple[str, str, str],
    along: str = "layer",
    **fixed: int | str,
) -> Line | None:
    """Return a metric by layer with its interval, named and drawn as in `look`; None if absent.

    `look` is name, colour and marker; `along` is the key of `at` that counts the places, and
    `fixed` is what the rows have besides.
    """
    rows = rows_at(run, study, metric, subject, (along,), **fixed)
    if not rows:
        return None
    name, colour, marker = look
    ends = (_column(rows, end, along) for end in ("value", "low", "high"))
    values, low, high = ends
    return Line(name=name, colour=colour, marker=marker, values=values, low=low, high=high)


def draw_depth(name: str, title: str, caption: str, panels: Sequence[Panel]) -> Drawing:
    """Return panels side by side; lines of the same name look alike and are in the legend once."""
    named = {line.name: line for panel in panels for line in panel.lines}
    once = drawn_once((each, _numbers(panels, each)) for each in named)
    shown = [list(named.values())[number] for number in once]
    labels = list(once.values())
    above = legend_height(labels) if len(named) > 1 else 0.0
    columns, rows = grid_of(len(panels), _LEAST, len(panels))
    drawing = sheet(name, title=title, caption=caption, height=above + rows * (_DOWN + 0.85))
    across = (drawing.size[0] - 0.1) / columns
    for panel, (row, column) in zip(panels, places_of(len(panels), columns), strict=True):
        y = above + 0.38 + row * (_DOWN + 0.85)
        axes = drawing.axes(0.6 + column * across, y, across - 0.75, _DOWN)
        _draw_panel(axes, panel, {line.name for line in shown})
    if len(named) > 1:
        handles = [Line2D([], [], color=line.colour, marker=line.marker) for line in shown]
        add_legend(drawing, handles, labels)
    return drawing


def _numbers(panels: Sequence[Panel], name: str) -> list[Array]:
    """Return all that is drawn under one name, panel by panel."""
    lines = [[line for line in panel.lines if line.name == name] for panel in panels]
    return [
        each
        for found in lines
        for each in ([found[0].values, found[0].low, found[0].high] if found else [np.array([])])
    ]


def _draw_panel(axes: Axes, panel: Panel, names: Collection[str]) -> None:
    """Draw the lines of these names."""
    for line in panel.lines:
        if line.name not in names:
            continue
        places = np.arange(1, len(line.values) + 1)
        axes.plot(
            places,
            panel.scale * line.values,
            color=line.colour,
            marker=line.marker,
            markersize=3.5,
            linewidth=1.5,
            zorder=3,
            clip_on=False,
        )
        low, high = panel.scale * line.low, panel.scale * line.high
        axes.fill_between(places, low, high, color=line.colour, alpha=BAND, linewidth=0)
    label_layers(axes, max(len(line.values) for line in panel.lines), _FEW_TICKS)
    axes.set(xlabel=panel.along, ylabel=panel.label)
    if panel.floor is not None:
        axes.set_ylim(bottom=panel.floor)
    axes.text(0, 1.07, panel.title, color=TEXT, size="small", transform=axes.transAxes)


def _column(rows: Sequence[Row], end: str, along: str) -> Array:
    """Return value, low or high of every place, [place]."""
    values = np.full(max(int(row.at[along]) for row in rows), np.nan)
    for row in rows:
        number = getattr(row, end)
        values[int(row.at[along]) - 1] = np.nan if number is None else number
    return values
