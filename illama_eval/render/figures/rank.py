"""Rank of attention maps against depth, and the singular values behind it, beside the controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from illama_eval.render.canvas import MARGIN, SMALL, WIDTH, Drawing, label_ends, label_width, sheet
from illama_eval.render.maps import DASHES, Maps, maps_of, threshold_of
from illama_eval.render.number import MISSING
from illama_eval.render.palette import AXIS, PAPER
from illama_eval.render.select import Array, images_of
from illama_eval.render.words import map_label
from illama_eval.result import Run

_BAND = 0.14
"""Opacity of the band from the lowest to the highest head."""
_DEPTH = 2.6
"""Height of the axes against depth in inches."""
_PANEL = 1.95
"""Side of a panel of singular values in inches."""
_NARROWEST = 4.9
"""Least width of a sheet in inches."""


def draw_rank_by_layer(run: Run) -> Iterator[Drawing]:
    """Yield rank against depth: the median of the heads, and the range of the used map's."""
    found = [maps for maps in maps_of(run) if maps.ranks.size]
    if not found:
        return
    drawing = sheet(
        "rank_by_layer",
        title="Rank of the attention maps by layer",
        caption=f"{_depth_finding(found)} {rank_method(run, found)} Lines: median of the heads; "
        "bands: lowest to highest head of the used map.",
        height=3.2,
    )
    names = label_width(_end_label(maps, found) for maps in found)
    axes = drawing.axes(0.62, MARGIN, WIDTH - 0.72 - names, _DEPTH)
    tokens = max(maps.tokens for maps in found)
    axes.set(ylim=(0, tokens), ylabel=f"rank (of {tokens})", xlabel="layer")
    for maps in found:
        _draw_depth(axes, maps)
    label_layers(axes, max(len(maps.ranks) for maps in found))
    ends = [(_last(maps.median), _end_label(maps, found), maps.look.colour) for maps in found]
    label_ends(axes, ends, _DEPTH)
    yield drawing


def draw_spectra(run: Run) -> Iterator[Drawing]:
    """Yield the cumulative singular values of the first, the middle and the last layer."""
    found = [maps for maps in maps_of(run) if maps.curves]
    if not found:
        return
    layers = sorted({layer for maps in found for layer, _ in maps.curves})
    shown = sorted({layers[0], layers[(len(layers) - 1) // 2], layers[-1]})
    names = [maps.label(found) for maps in found]
    columns = max(1, int((WIDTH - MARGIN) / (label_width(names) + 0.4)))
    above = MARGIN + 0.19 * -(-len(found) // columns) + 0.3
    drawing = sheet(
        "rank_singular_values",
        title="Cumulative singular values of the attention maps",
        caption=f"{_spectrum_finding(found, shown, threshold_of(run))} {rank_method(run, found)} "
        "Lines: median of the heads; bands: lowest to highest head of the used map.",
        height=above + _PANEL + 0.5,
        width=max(0.75 + len(shown) * (_PANEL + 0.2), _NARROWEST),
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
    drawing.figure.legend(lines, names, fontsize=SMALL, ncols=columns, frameon=False,
                          handlelength=2.2, loc="upper left", borderaxespad=0.3)  # fmt: skip
    yield drawing


def rank_method(run: Run, found: Sequence[Maps]) -> str:
    """Return how the rank is defined, and which control is no map of its own."""
    kinds = {maps.kind for maps in found}
    same = [map_label(kind) for kind in DASHES if kind not in kinds]
    note = f" “{' and '.join(same)}” equals the used map and is not drawn." if same else ""
    return (
        f"Rank: how many singular values of the mean map over {images_of(run, 'rank')} make "
        f"{100 * threshold_of(run):.4g} % of their sum.{note}"
    )


def label_layers(axes: Axes, layers: int, most: int = 12) -> None:
    """Put integer ticks, about `most` of them, below a depth axis from 1."""
    step = -(-layers // most)
    axes.set_xlim(0.7, layers + 0.3)
    axes.set_xticks(
        sorted({1, *range(step, layers + 1, step)} if step > 1 else range(1, layers + 1))
    )


def _draw_depth(axes: Axes, maps: Maps) -> None:
    layers = np.arange(1, len(maps.ranks) + 1)
    used = maps.kind == "used"
    axes.plot(layers, maps.median, color=maps.look.colour, linestyle=DASHES[maps.kind],
              linewidth=1.8 if used else 1.2, marker=maps.look.marker,
              markersize=4.5 if used else 2.5)  # fmt: skip
    if used and maps.ranks.shape[1] > 1:
        low, high = np.nanmin(maps.ranks, axis=1), np.nanmax(maps.ranks, axis=1)
        axes.fill_between(layers, low, high, color=maps.look.colour, alpha=_BAND, linewidth=0)


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
            axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=_BAND, linewidth=0)
    axes.set(xlim=(0, max(maps.tokens for maps in found)), ylim=(0, 101))
    axes.legend(loc="lower right", frameon=False, fontsize=SMALL, handlelength=2.2, title="rank",
                title_fontsize=SMALL,
                borderaxespad=0.2, labelspacing=0.3)  # fmt: skip


def show_rank(rank: float) -> str:
    """Return a rank or the median of ranks: `129`, `128.5`, or a dash."""
    return f"{rank:.4g}" if np.isfinite(rank) else MISSING


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
