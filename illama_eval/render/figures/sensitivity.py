"""How much each layer minds being quantized: a heat map of layer by kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap

from illama_eval.render.canvas import SMALL, Drawing, sheet
from illama_eval.render.palette import ON_SEQUENTIAL, PAPER, SEQUENTIAL
from illama_eval.render.select import Array, images_of, rows_at, subjects_of
from illama_eval.results import Row, Run

_ACROSS, _DOWN = 0.95, 0.19
"""Size of a cell in inches."""


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
        height=layers * _DOWN + 0.75,
        width=max(4.6, len(kinds) * _ACROSS + 0.8),
    )
    axes = drawing.axes(0.5, 0.4, len(kinds) * _ACROSS, layers * _DOWN)
    norm = _scale(grid)
    axes.pcolormesh(np.arange(len(kinds) + 1), np.arange(layers + 1) + 0.5,
                    np.ma.masked_invalid(grid), cmap=ListedColormap(SEQUENTIAL), norm=norm,
                    edgecolor=PAPER, linewidth=0.8)  # fmt: skip
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
            axes.text(kind + 0.5, layer + 1, f"{1e3 * value:.3g}", color=colour, size=SMALL,
                      ha="center", va="center_baseline")  # fmt: skip
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
