"""Figures of the rank of attention maps: by layer, by head, and their singular values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.lines import Line2D

from illama_eval.render.attention_maps import (
    DASHES,
    Maps,
    drawn_together,
    maps_of,
    rank_method,
    show_rank,
    threshold_of,
)
from illama_eval.render.figures.canvas import (
    BAND,
    MARGIN,
    SMALL,
    WIDTH,
    Drawing,
    add_legend,
    label_ends,
    label_layers,
    label_width,
    legend_height,
    sheet,
)
from illama_eval.render.format.glossary import map_label
from illama_eval.render.format.numbers import MISSING
from illama_eval.render.select import Array, range_of_heads
from illama_eval.render.style.palette import AXIS, ON_SEQUENTIAL, PAPER, SEQUENTIAL
from illama_eval.results import Run

_DEPTH = 2.6
"""Rank by layer: least height of the axes in inches."""
_LABEL = 0.16
"""Rank by layer: height of a label at a line's end in inches."""

_INNER = 5.9
"""Rank by head: inches of a sheet's width that cells may take."""
_LINE = 0.19
"""Rank by head: height of a cell in inches."""
_CELL, _SMALLEST_CELL = 0.3, 0.26
"""Rank by head: width of a cell with a number, and the least one, in inches."""
_NARROWEST, _NARROWEST_SHEET = 1.3, 4.6
"""Rank by head: least width of a panel, for its title, and of a sheet, in inches."""

_PANEL = 1.95
"""Singular values: side of a panel in inches."""
_NARROWEST_SPECTRA = 4.9
"""Singular values: least width of a sheet in inches."""
_FEW = 3
"""Singular values: lines whose names fit on the narrowest sheet."""
_MOST_RANKS = 6
"""Singular values: lines up to which each panel lists the ranks."""


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


def _end_label(maps: Maps, among: Sequence[Maps]) -> str:
    """Return the label of a line: of several subjects, the used map has the subject's name."""
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
    axes.text(
        1.02,
        0.5,
        f"rank (of {edges[-1]:.0f})",
        size=SMALL,
        va="center_baseline",
        transform=axes.transAxes,
    )


def _draw_panel(
    axes: Axes, maps: Maps, colours: ListedColormap, norm: BoundaryNorm, *, numbers: bool
) -> None:
    layers, heads = maps.ranks.shape
    x, y = np.arange(heads + 1) + 0.5, np.arange(layers + 1) + 0.5
    axes.pcolormesh(
        x,
        y,
        np.ma.masked_invalid(maps.ranks),
        cmap=colours,
        norm=norm,
        edgecolor=PAPER,
        linewidth=0.8,
    )
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
        axes.text(
            head + 1,
            layer + 1,
            show_rank(rank),
            color=colour,
            size=SMALL,
            ha="center",
            va="center_baseline",
        )


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
        width=max(
            0.75 + len(shown) * (_PANEL + 0.2), WIDTH if len(found) > _FEW else _NARROWEST_SPECTRA
        ),
    )
    panels = [
        drawing.axes(0.62 + place * (_PANEL + 0.2), above, _PANEL, _PANEL)
        for place in range(len(shown))
    ]
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
            fontsize=SMALL,
            title_fontsize=SMALL,
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
