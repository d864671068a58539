"""Figure of the rank of every head: the map that is used, joined to its control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from illama.figure_style import AXIS, HAIRLINE, PAPER
from illama_eval.render.attention_maps import Maps, maps_of, range_of_ranks, rank_method
from illama_eval.render.figures.canvas import MARGIN, Drawing, grid_of, sheet
from illama_eval.render.figures.labels import add_legend, legend_height
from illama_eval.render.format.glossary import map_label
from illama_eval.render.style.figure import sheet_width
from illama_eval.results import Run

CONTROLS = {"softmax": "o", "masked": "s"}
"""Markers of the controls, which are hollow."""
_PITCH, _BETWEEN, _LEAST_ROW = 0.052, 0.09, 0.22
"""Inches from head to head and between two layers; least height of a layer."""
_MOST_LAYERS = 12
"""Layers up to which one column holds all."""
_NARROWEST = 2.6
"""Least width of a column in inches."""
_LEFT, _BELOW, _GAP = 0.55, 0.5, 0.45


def draw_rank_by_head(run: Run) -> Iterator[Drawing]:
    """Yield a sheet per subject, all on one scale from 0 to the largest rank that was found."""
    found = [maps for maps in maps_of(run) if np.isfinite(maps.ranks).any()]
    top = max((float(np.nanmax(maps.ranks)) for maps in found), default=1.0)
    by_subject = groupby(found, lambda maps: maps.subject)
    for number, (_, group) in enumerate(by_subject, start=1):
        yield _draw_sheet(run, list(group), top, f"-{number}" if number > 1 else "")


def _draw_sheet(run: Run, mine: Sequence[Maps], top: float, suffix: str) -> Drawing:
    layers, heads = mine[0].ranks.shape
    columns, _ = grid_of(2 if layers > _MOST_LAYERS else 1, _NARROWEST, 2)
    each = -(-layers // columns)
    row = max(_LEAST_ROW, heads * _PITCH + _BETWEEN)
    names = [map_label(maps.kind) for maps in mine]
    above = legend_height(names) + MARGIN
    drawing = sheet(
        f"rank_by_head{suffix}",
        title="Rank of the attention map of each layer and head",
        caption=f"{range_of_ranks(mine[0])} {_controls(mine)} {rank_method(run, mine)} "
        "In each layer the heads are in order from the top.",
        height=above + each * row + _BELOW,
    )
    across = (sheet_width() - MARGIN - columns * _LEFT - (columns - 1) * _GAP) / columns
    for column in range(columns):
        x = _LEFT + column * (across + _LEFT + _GAP - MARGIN)
        axes = drawing.axes(x, above, across, each * row)
        _draw_layers(axes, mine, range(column * each, min(layers, (column + 1) * each)), row)
        axes.set(xlim=(0, 1.04 * top), xlabel=f"rank (of {mine[0].tokens})")
        axes.set_ylim((column * each + each - 0.5), column * each - 0.5)
    add_legend(drawing, [_handle(maps) for maps in mine], names)
    return drawing


def _draw_layers(axes: Axes, mine: Sequence[Maps], layers: range, row: float) -> None:
    """Draw a line per head from the lowest to the highest of its maps, and a mark for each."""
    heads = mine[0].ranks.shape[1]
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    for layer in layers:
        axes.axhline(layer + 0.5, color=HAIRLINE, linewidth=0.5, zorder=0)
        y = layer + (np.arange(heads) - (heads - 1) / 2) * _PITCH / row
        ranks = np.array([maps.ranks[layer] for maps in mine])
        known = np.isfinite(ranks).any(axis=0)
        axes.hlines(
            y[known],
            np.nanmin(ranks[:, known], axis=0),
            np.nanmax(ranks[:, known], axis=0),
            color=AXIS,
            linewidth=0.6,
            zorder=1,
        )
        for maps in mine:
            axes.plot(maps.ranks[layer], y, zorder=3 if maps.kind == "used" else 2, **_look(maps))
    axes.set_yticks(layers, [f"{layer + 1}" for layer in layers])
    axes.set_ylabel("layer")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _look(maps: Maps) -> dict[str, Any]:
    used = maps.kind == "used"
    return {
        "linestyle": "none",
        "marker": maps.look.marker if used else CONTROLS[maps.kind],
        "color": maps.look.colour,
        "markerfacecolor": maps.look.colour if used else PAPER,
        "markeredgewidth": 0.8,
        "markersize": 3.6 if used else 3.0,
        "clip_on": False,
    }


def _handle(maps: Maps) -> Line2D:
    return Line2D([], [], **_look(maps))


def _controls(mine: Sequence[Maps]) -> str:
    """Return in how many heads the used map has a higher rank than each control."""
    used = next((maps for maps in mine if maps.kind == "used"), None)
    parts = []
    for maps in mine:
        if used is None or maps is used:
            continue
        both = np.isfinite(used.ranks) & np.isfinite(maps.ranks)
        higher = int((used.ranks > maps.ranks)[both].sum())
        parts.append(f"Above “{map_label(maps.kind)}” in {higher} of {int(both.sum())} heads.")
    return " ".join(parts)
