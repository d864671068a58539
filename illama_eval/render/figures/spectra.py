"""Cumulative singular values of attention maps: where each curve passes the threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from illama_eval.render.canvas import (
    BAND,
    SMALL,
    WIDTH,
    Drawing,
    add_legend,
    legend_height,
    sheet,
)
from illama_eval.render.maps import (
    DASHES,
    Maps,
    drawn_together,
    rank_method,
    show_rank,
    threshold_of,
)
from illama_eval.render.number import MISSING
from illama_eval.render.palette import AXIS, PAPER
from illama_eval.results import Run

_PANEL = 1.95
"""Side of a panel in inches."""
_NARROWEST = 4.9
"""Least width of a sheet in inches."""
_FEW = 3
"""Lines whose names fit on the narrowest sheet."""
_MOST_RANKS = 6
"""Lines up to which each panel lists the ranks."""


def draw_spectra(run: Run) -> Iterator[Drawing]:
    """Yield the cumulative singular values of the first, the middle and the last layer."""
    found = [maps for maps in drawn_together(run) if maps.curves]
    if not found:
        return
    layers = sorted({layer for maps in found for layer, _ in maps.curves})
    shown = sorted({layers[0], layers[(len(layers) - 1) // 2], layers[-1]})
    names = [maps.label(found) for maps in found]
    above = legend_height(names) + 0.3
    drawing = sheet(
        "rank_singular_values",
        title="Cumulative singular values of the attention maps",
        caption=f"{_spectrum_finding(found, shown, threshold_of(run))} {rank_method(run, found)} "
        "Lines: median of the heads; bands: lowest to highest head of the used map.",
        height=above + _PANEL + 0.5,
        width=max(0.75 + len(shown) * (_PANEL + 0.2), WIDTH if len(found) > _FEW else _NARROWEST),
    )
    panels = [drawing.axes(0.62 + place * (_PANEL + 0.2), above, _PANEL, _PANEL)
              for place in range(len(shown))]  # fmt: skip
    for axes, layer in zip(panels, shown, strict=True):
        _draw_spectrum(axes, found, layer, threshold_of(run))
        axes.set_title(f"layer {layer}")
        axes.tick_params(labelleft=axes is panels[0])
        axes.set_xlabel("singular values taken")
    panels[0].set_ylabel("share of their sum (%)")
    lines = [Line2D([], [], color=maps.look.colour, linestyle=DASHES[maps.kind]) for maps in found]
    add_legend(drawing, lines, names)
    yield drawing


def _draw_spectrum(axes: Axes, found: Sequence[Maps], layer: int, threshold: float) -> None:
    axes.axhline(100 * threshold, color=AXIS, linewidth=0.8)
    for maps in found:
        lines = maps.lines(layer)
        if lines is None:
            continue
        (x, y), used, colour = lines, maps.kind == "used", maps.look.colour
        rank = maps.median[layer - 1] if layer <= len(maps.median) else np.nan
        axes.plot(x, np.median(y, axis=0), color=colour, linestyle=DASHES[maps.kind],
                  linewidth=1.7 if used else 1.2, label=show_rank(rank))  # fmt: skip
        axes.plot(rank, 100 * threshold, maps.look.marker, color=colour if used else PAPER,
                  markeredgecolor=colour, markersize=4.5, zorder=4)  # fmt: skip
        if used and len(y) > 1:
            axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=BAND, linewidth=0)
    axes.set(xlim=(0, max(maps.tokens for maps in found)), ylim=(0, 101))
    if len(found) <= _MOST_RANKS:
        axes.legend(loc="lower right", frameon=False, fontsize=SMALL, title_fontsize=SMALL,
                    title="rank", handlelength=2.2, borderaxespad=0.2,
                    labelspacing=0.3)  # fmt: skip


def _spectrum_finding(found: Sequence[Maps], shown: Sequence[int], threshold: float) -> str:
    """Return how many singular values the used maps need in the layers shown."""
    parts = []
    for maps in found:
        ranks = [show_rank(maps.median[layer - 1]) for layer in shown if layer <= len(maps.median)]
        if maps.kind == "used" and ranks:
            parts.append(f"{maps.look.label}: {', '.join(ranks)} of {maps.tokens}")
    layers = ", ".join(str(layer) for layer in shown)
    return (
        f"Singular values that make {100 * threshold:.4g} % of their sum in layer {layers} of the "
        f"used maps: {'; '.join(parts) or MISSING}."
    )
