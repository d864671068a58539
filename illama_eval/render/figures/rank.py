"""Rank of attention maps against depth, beside the controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes

from illama_eval.render.canvas import (
    BAND,
    MARGIN,
    WIDTH,
    Drawing,
    label_ends,
    label_layers,
    label_width,
    sheet,
)
from illama_eval.render.maps import DASHES, Maps, drawn_together, rank_method, show_rank
from illama_eval.render.select import Array, range_of_heads
from illama_eval.render.words import map_label
from illama_eval.results import Run

_DEPTH = 2.6
"""Least height of the axes in inches."""
_LABEL = 0.16
"""Height of a label at a line's end in inches."""


def draw_rank_by_layer(run: Run) -> Iterator[Drawing]:
    """Yield rank against depth: the median of the heads, and the range of the used map's."""
    found = [maps for maps in drawn_together(run) if maps.ranks.size]
    if not found:
        return
    high = max(_DEPTH, _LABEL * len(found))
    drawing = sheet(
        "rank_by_layer",
        title="Rank of the attention maps by layer",
        caption=f"{_depth_finding(found)} {rank_method(run, found)} Lines: median of the heads; "
        "bands: lowest to highest head of the used map.",
        height=high + 0.6,
    )
    names = label_width(_end_label(maps, found) for maps in found)
    axes = drawing.axes(0.62, MARGIN, WIDTH - 0.72 - names, high)
    tokens = max(maps.tokens for maps in found)
    axes.set(ylim=(0, tokens), ylabel=f"rank (of {tokens})", xlabel="layer")
    for maps in found:
        _draw_depth(axes, maps)
    label_layers(axes, max(len(maps.ranks) for maps in found))
    ends = [(_last(maps.median), _end_label(maps, found), maps.look.colour) for maps in found]
    label_ends(axes, ends, high)
    yield drawing


def _draw_depth(axes: Axes, maps: Maps) -> None:
    layers = np.arange(1, len(maps.ranks) + 1)
    used = maps.kind == "used"
    axes.plot(layers, maps.median, color=maps.look.colour, linestyle=DASHES[maps.kind],
              linewidth=1.8 if used else 1.2, marker=maps.look.marker,
              markersize=4.5 if used else 2.5)  # fmt: skip
    if used and maps.ranks.shape[1] > 1:
        axes.fill_between(
            layers, *range_of_heads(maps.ranks), color=maps.look.colour, alpha=BAND, linewidth=0
        )


def _last(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if known.size else 0.0


def _end_label(maps: Maps, among: Sequence[Maps]) -> str:
    """Return what stands at a line's end: of several subjects, the used map bears the name."""
    several = len({other.subject for other in among}) > 1
    return maps.look.label if several and maps.kind == "used" else map_label(maps.kind)


def _depth_finding(found: Sequence[Maps]) -> str:
    """Return the median rank at both ends of the network, subject by subject."""
    parts = []
    for subject in dict.fromkeys(maps.subject for maps in found):
        mine = [maps for maps in found if maps.subject == subject]
        ends = ", ".join(f"{map_label(maps.kind)} {_ends(maps)}" for maps in mine)
        parts.append(f"{mine[0].look.label}, first to last layer: {ends}.")
    return " ".join(parts)


def _ends(maps: Maps) -> str:
    return " to ".join(show_rank(rank) for rank in maps.median[[0, -1][: len(maps.median)]])
