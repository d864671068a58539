"""Rank of every layer and head, beside the same of the control maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap

from illama_eval.render.canvas import SMALL, Drawing, sheet
from illama_eval.render.maps import Maps, maps_of, rank_method, show_rank
from illama_eval.render.palette import AXIS, ON_SEQUENTIAL, PAPER, SEQUENTIAL
from illama_eval.render.words import map_label
from illama_eval.results import Run

_INNER = 5.9
"""Inches of a sheet's width that cells may take."""
_CELL, _SMALLEST_CELL = 0.3, 0.26
"""Width of a cell that holds a number, and the least one, in inches."""
_NARROWEST, _NARROWEST_SHEET = 1.3, 4.6
"""Least width of a panel, for its title, and of a sheet, in inches."""
_LINE = 0.19
"""Height of a cell in inches."""


def draw_rank_by_head(run: Run) -> Iterator[Drawing]:
    """Yield one sheet of heat maps per subject, all on the scale from 1 to the largest rank."""
    found = [maps for maps in maps_of(run) if maps.ranks.size]
    tokens = max((maps.tokens for maps in found), default=1)
    for number, subject in enumerate(dict.fromkeys(maps.subject for maps in found), start=1):
        mine = [maps for maps in found if maps.subject == subject]
        yield _draw_sheet(run, mine, tokens, f"-{number}" if number > 1 else "")


def _draw_sheet(run: Run, mine: Sequence[Maps], tokens: int, suffix: str) -> Drawing:
    layers, heads = mine[0].ranks.shape
    beside = heads * len(mine) * _CELL <= _INNER or heads * _SMALLEST_CELL > _INNER
    rows, columns = (1, len(mine)) if beside else (len(mine), 1)
    across = max(min(0.5 * heads, _INNER / columns), _NARROWEST)
    high = layers * _LINE
    drawing = sheet(
        f"rank_by_head{suffix}",
        title="Rank of the attention map of each layer and head",
        caption=f"{_finding(mine[0])} {rank_method(run, mine)}",
        height=rows * (high + 0.6) + 0.85,
        width=max(columns * (across + 0.25) + 0.5, _NARROWEST_SHEET),
    )
    edges = np.unique(np.linspace(1, max(tokens, 2), len(SEQUENTIAL) + 1).round())
    colours = ListedColormap(SEQUENTIAL[: len(edges) - 1])
    norm = BoundaryNorm(edges, len(edges) - 1)
    for place, maps in enumerate(mine):
        row, column = divmod(place, columns)
        axes = drawing.axes(0.5 + column * (across + 0.25), 0.3 + row * (high + 0.6), across, high)
        _draw_panel(axes, maps, colours, norm, numbers=across >= heads * _SMALLEST_CELL)
        axes.tick_params(labelleft=column == 0)
        axes.set(xlabel="head" if row == rows - 1 else "", ylabel="" if column else "layer")
    _draw_scale(drawing.axes(0.5, rows * (high + 0.6) + 0.35, 2.9, 0.11), norm, colours)
    return drawing


def _draw_scale(axes: Axes, norm: BoundaryNorm, colours: ListedColormap) -> None:
    bar = axes.figure.colorbar(ScalarMappable(norm, colours), cax=axes, orientation="horizontal")
    edges = list(map(float, norm.boundaries))
    bar.set_ticks(edges, labels=[f"{edge:.0f}" for edge in edges])
    bar.outline.set_linewidth(0.5)
    axes.text(1.02, 0.5, f"rank (of {edges[-1]:.0f})", size=SMALL, va="center_baseline",
              transform=axes.transAxes)  # fmt: skip


def _draw_panel(
    axes: Axes, maps: Maps, colours: ListedColormap, norm: BoundaryNorm, *, numbers: bool
) -> None:
    layers, heads = maps.ranks.shape
    x, y = np.arange(heads + 1) + 0.5, np.arange(layers + 1) + 0.5
    axes.pcolormesh(x, y, np.ma.masked_invalid(maps.ranks), cmap=colours, norm=norm,
                    edgecolor=PAPER, linewidth=0.8)  # fmt: skip
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.set_xticks(_ticks(heads))
    axes.set_yticks(_ticks(layers))
    axes.tick_params(length=0)
    axes.set_title(map_label(maps.kind))
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (layer, head), rank in np.ndenumerate(maps.ranks):
        if np.isfinite(rank) and not numbers:
            continue
        colour = ON_SEQUENTIAL[int(np.clip(norm(rank), 0, 6))] if np.isfinite(rank) else AXIS
        axes.text(head + 1, layer + 1, show_rank(rank), color=colour, size=SMALL, ha="center",
                  va="center_baseline")  # fmt: skip


def _ticks(count: int) -> list[int]:
    step = 1 if count <= 16 else 4  # noqa: PLR2004 - labels of one line each still fit
    return [1, *range(step, count + 1, step)] if step > 1 else list(range(1, count + 1))


def _finding(maps: Maps) -> str:
    known = np.isfinite(maps.ranks)
    if not known.any():
        return f"{maps.look.label}: no rank is defined."
    low, high = (
        np.unravel_index(pick(np.where(known, maps.ranks, fill)), maps.ranks.shape)
        for pick, fill in ((np.argmin, np.inf), (np.argmax, -np.inf))
    )
    words = [
        f"{show_rank(maps.ranks[place])} in layer {place[0] + 1}, head {place[1] + 1}"
        for place in (low, high)
    ]
    return f"{maps.look.label}, {map_label(maps.kind)}: from {words[0]}, to {words[1]}."
