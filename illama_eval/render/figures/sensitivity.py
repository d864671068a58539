"""Figure of quantization sensitivity: the divergence when one layer alone is quantized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, NullLocator

from illama.figure_style import AXIS, PAPER
from illama_eval.render.figures.canvas import MARGIN, Drawing, sheet
from illama_eval.render.format.numbers import MISSING
from illama_eval.render.select import Array, images_of, rows_at, subjects_of
from illama_eval.render.style.figure import NARROWEST, sheet_width
from illama_eval.render.style.palette import ON_BRIGHT
from illama_eval.results import Row, Run

_ROW, _WIDEST = 0.2, 1.05
"""Height and largest width of a cell in inches."""
_LEFT, _BELOW = 0.5, 0.95
_DARK = 0.5
"""Place on the colour scale below which numbers in cells are white."""
_MILLI = 1e3
_COLOURS = colormaps["cividis"]


def draw_sensitivity(run: Run) -> Iterator[Drawing]:
    """Yield the mean divergence of each layer and kind, for every scheme that was tried."""
    for subject in subjects_of(run):
        every = run.by_metric.get((subject, "sensitivity", "kl"), ())
        for scheme in dict.fromkeys(row.at.get("scheme") for row in every):
            if isinstance(scheme, str):
                keys = ("layer", "kind")
                rows = rows_at(run, "sensitivity", "kl", subject, keys, scheme=scheme)
                if rows:
                    yield _draw(run, rows, scheme)


def _draw(run: Run, rows: Sequence[Row], scheme: str) -> Drawing:
    kinds = list(dict.fromkeys(str(row.at["kind"]) for row in rows))
    grid = _grid(rows, kinds)
    layers = len(grid)
    across = min(_WIDEST, (sheet_width() - _LEFT - MARGIN) / len(kinds)) * len(kinds)
    drawing = sheet(
        f"sensitivity_{scheme}",
        title=f"Divergence of the logits when one layer alone is {scheme}",
        caption=f"{_finding(grid, kinds)} Mean KL(exact || swapped) over "
        f"{images_of(run, 'sensitivity')}; the colours are on a logarithmic scale.",
        height=layers * _ROW + 0.15 + _BELOW,
        width=max(_LEFT + across + MARGIN, NARROWEST),
    )
    axes = drawing.axes(_LEFT, 0.15, across, layers * _ROW)
    norm = _norm(grid)
    axes.pcolormesh(
        np.arange(len(kinds) + 1),
        np.arange(layers + 1) + 0.5,
        np.ma.masked_invalid(grid),
        cmap=_COLOURS,
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
    _write_values(axes, grid, norm)
    _draw_bar(drawing.axes(_LEFT, 0.15 + layers * _ROW + 0.4, min(across, 1.8), 0.1), norm)
    return drawing


def _grid(rows: Sequence[Row], kinds: Sequence[str]) -> Array:
    """Return the divergence in millinats, [layer, kind], NaN where undefined."""
    grid = np.full((max(int(row.at["layer"]) for row in rows), len(kinds)), np.nan)
    for row in rows:
        value = np.nan if row.value is None else _MILLI * max(row.value, 0.0)
        grid[int(row.at["layer"]) - 1, kinds.index(str(row.at["kind"]))] = value
    return grid


def _norm(grid: Array) -> LogNorm:
    """Return the scale from the least divergence above 0 to the largest."""
    known = grid[np.isfinite(grid) & (grid > 0)]
    low, high = (float(known.min()), float(known.max())) if known.size else (1e-3, 1.0)
    return LogNorm(low, max(high, 1.01 * low), clip=True)


def _write_values(axes: Axes, grid: Array, norm: LogNorm) -> None:
    """Write every number in its cell, all with the digits of the largest one's third."""
    known = grid[np.isfinite(grid)]
    largest = float(known.max()) if known.size else 1.0
    digits = max(0, 2 - int(np.floor(np.log10(largest)))) if largest > 0 else 0
    for (layer, kind), value in np.ndenumerate(grid):
        bright = np.isfinite(value) and float(norm(np.array([value]))[0]) >= _DARK
        axes.text(
            kind + 0.5,
            layer + 1,
            f"{value:.{digits}f}" if np.isfinite(value) else MISSING,
            color=ON_BRIGHT if bright else PAPER if np.isfinite(value) else AXIS,
            size="small",
            ha="center",
            va="center_baseline",
        )


def _draw_bar(axes: Axes, norm: LogNorm) -> None:
    """Draw the colour bar, labelled at both ends and between them."""
    shades = ScalarMappable(norm, _COLOURS)
    bar = axes.figure.colorbar(shades, cax=axes, orientation="horizontal")
    bar.set_ticks([float(each) for each in np.geomspace(norm.vmin or 1.0, norm.vmax or 1.0, 4)])
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.outline.set_linewidth(0.5)
    axes.text(
        1.03, 0.5, "KL (millinats)", size="small", va="center_baseline", transform=axes.transAxes
    )


def _finding(grid: Array, kinds: Sequence[str]) -> str:
    known = np.isfinite(grid)
    if not known.any():
        return "No divergence is defined."
    layer, kind = np.unravel_index(int(np.argmax(np.where(known, grid, -np.inf))), grid.shape)
    share = grid[layer, kind] / grid[known].sum() if grid[known].sum() else 0.0
    return (
        f"Most sensitive: {kinds[int(kind)]} in layer {int(layer) + 1}, {100 * share:.0f} % of the "
        f"sum over all {int(known.sum())}."
    )
