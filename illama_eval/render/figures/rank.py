"""Figures of the rank of attention maps: by layer, and their singular values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes

from illama.figure_style import AXIS, PAPER
from illama_eval.render.attention_maps import (
    DASHES,
    Maps,
    drawn_together,
    rank_method,
    show_rank,
    threshold_of,
)
from illama_eval.render.figures.canvas import BAND, MARGIN, Drawing, grid_of, places_of, sheet
from illama_eval.render.figures.labels import (
    NamedLine,
    add_legend,
    drawn_once,
    label_layers,
    legend_height,
    name_lines,
    sheet_of_lines,
)
from illama_eval.render.format.glossary import map_label
from illama_eval.render.format.numbers import MISSING
from illama_eval.render.select import Array, range_of_heads
from illama_eval.render.style.figure import sheet_width
from illama_eval.results import Run

_DEPTH = 2.6
"""Rank by layer: least height of the axes in inches."""
_LABEL = 0.16
"""Rank by layer: height of a label at a line's end in inches."""
_PANEL, _LEAST_PANEL, _WIDEST_PANEL = 1.95, 1.65, 3.3
"""Singular values: height of a panel in inches, its least width with surroundings, and its most."""
_BESIDE, _BETWEEN = 0.62, 0.2
"""Singular values: inches left of the first panel, and between panels."""
_MOST_RANKS = 6
"""Singular values: lines up to which each panel lists the ranks."""


def draw_rank_by_layer(run: Run) -> Iterator[Drawing]:
    """Yield rank against depth: the median of the heads, and the range of the used map's."""
    found = [maps for maps in drawn_together(run) if maps.ranks.size]
    if not found:
        return
    once = drawn_once((_name(maps, found), [maps.ranks]) for maps in found)
    shown, names = [found[number] for number in once], list(once.values())
    drawing, axes = sheet_of_lines(
        "rank_by_layer",
        "Rank of the attention maps by layer",
        f"{_depth_finding(found)} {rank_method(run, found)} Lines: median of the heads; "
        "bands: lowest to highest head of the used map.",
        names,
        max(_DEPTH, _LABEL * len(shown)),
    )
    for maps in shown:
        _draw_depth(axes, maps)
    tokens = max(maps.tokens for maps in found)
    axes.set(ylim=(0, 1.05 * _highest(shown)), ylabel=f"rank (of {tokens})", xlabel="layer")
    label_layers(axes, max(len(maps.ranks) for maps in found))
    lines = [
        _named(maps, _last(maps.median), name) for maps, name in zip(shown, names, strict=True)
    ]
    name_lines(drawing, axes, lines)
    yield drawing


def _highest(found: Sequence[Maps]) -> float:
    """Return the largest number that is drawn: a used head's rank, or a median."""
    drawn = [maps.ranks if maps.kind == "used" else maps.median for maps in found]
    known = np.concatenate([each[np.isfinite(each)] for each in drawn])
    return float(known.max()) if known.size else 1.0


def _named(maps: Maps, y: float, name: str) -> NamedLine:
    look = maps.look
    return NamedLine(y=y, name=name, colour=look.colour, marker=look.marker, dash=DASHES[maps.kind])


def _draw_depth(axes: Axes, maps: Maps) -> None:
    layers = np.arange(1, len(maps.ranks) + 1)
    used = maps.kind == "used"
    axes.plot(
        layers,
        maps.median,
        color=maps.look.colour,
        linestyle=DASHES[maps.kind],
        linewidth=1.8 if used else 1.2,
        marker=maps.look.marker,
        markersize=4.5 if used else 2.5,
    )
    if used and maps.ranks.shape[1] > 1:
        axes.fill_between(
            layers, *range_of_heads(maps.ranks), color=maps.look.colour, alpha=BAND, linewidth=0
        )


def _last(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if known.size else 0.0


def _name(maps: Maps, among: Sequence[Maps]) -> str:
    """Return the name of a line: of several subjects, the used map has the subject's own."""
    several = len({other.subject for other in among}) > 1
    used = several and maps.kind == "used"
    return maps.look.label if used else maps.label(among)


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


def draw_spectra(run: Run) -> Iterator[Drawing]:
    """Yield the cumulative singular values of the first, the middle and the last layer."""
    found = [maps for maps in drawn_together(run) if maps.curves]
    if not found:
        return
    layers = sorted({layer for maps in found for layer, _ in maps.curves})
    shown = sorted({layers[0], layers[(len(layers) - 1) // 2], layers[-1]})
    once = drawn_once((maps.label(found), _numbers(maps, shown)) for maps in found)
    lines, names = [found[number] for number in once], list(once.values())
    columns, rows = grid_of(len(shown), _LEAST_PANEL + 0.4, len(shown))
    above, down = legend_height(names) + 0.3, _PANEL + 0.75
    room = sheet_width() - _BESIDE - MARGIN - _BETWEEN * (columns - 1)
    wide = min(room / columns, _WIDEST_PANEL)
    drawing = sheet(
        "rank_singular_values",
        title="Cumulative singular values of the attention maps",
        caption=f"{_spectrum_finding(found, shown, threshold_of(run))} {rank_method(run, found)} "
        "Lines: median of the heads; bands: lowest to highest head of the used map.",
        height=above + rows * down - 0.2,
    )
    for layer, (row, column) in zip(shown, places_of(len(shown), columns), strict=True):
        x = _BESIDE + column * (wide + _BETWEEN)
        axes = drawing.axes(x, above + row * down, wide, _PANEL)
        _draw_spectrum(axes, lines, layer, threshold_of(run))
        axes.set(title=f"layer {layer}", xlabel="singular values taken")
        axes.tick_params(labelleft=not column)
        axes.set_ylabel("" if column else "share of their sum (%)")
    named = [_named(maps, 0, name) for maps, name in zip(lines, names, strict=True)]
    add_legend(drawing, [line.handle() for line in named], names)
    yield drawing


def _numbers(maps: Maps, shown: Sequence[int]) -> list[Array]:
    """Return all that is drawn of a map's singular values."""
    lines = [maps.lines(layer) for layer in shown]
    return [each for pair in lines if pair is not None for each in pair]


def _draw_spectrum(axes: Axes, found: Sequence[Maps], layer: int, threshold: float) -> None:
    axes.axhline(100 * threshold, color=AXIS, linewidth=0.8)
    for maps in found:
        lines = maps.lines(layer)
        if lines is None:
            continue
        (x, y), used, colour = lines, maps.kind == "used", maps.look.colour
        rank = maps.median[layer - 1] if layer <= len(maps.median) else np.nan
        axes.plot(
            x,
            np.median(y, axis=0),
            color=colour,
            linestyle=DASHES[maps.kind],
            linewidth=1.7 if used else 1.2,
            label=show_rank(rank),
        )
        axes.plot(
            rank,
            100 * threshold,
            maps.look.marker,
            color=colour if used else PAPER,
            markeredgecolor=colour,
            markersize=4.5,
            zorder=4,
        )
        if used and len(y) > 1:
            axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=BAND, linewidth=0)
    axes.set(xlim=(0, max(maps.tokens for maps in found)), ylim=(0, 101))
    if len(found) <= _MOST_RANKS:
        axes.legend(
            loc="lower right",
            frameon=False,
            fontsize="small",
            title_fontsize="small",
            title="rank",
            handlelength=2.2,
            borderaxespad=0.2,
            labelspacing=0.3,
        )


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
