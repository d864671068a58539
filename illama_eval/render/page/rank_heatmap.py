"""Heat maps of the rank of every layer and head, with the curve behind each number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from illama_eval.render.attention_maps import (
    Maps,
    range_of_ranks,
    rank_method,
    show_rank,
    threshold_of,
)
from illama_eval.render.format.glossary import map_label
from illama_eval.render.format.numbers import signed
from illama_eval.render.models import ReportModels
from illama_eval.render.page.differences import PAIR
from illama_eval.render.page.document import Cell, HeatMaps, Panel
from illama_eval.render.select import Array
from illama_eval.render.style.palette import SEQUENTIAL
from illama_eval.render.style.theme import role_of

POINTS = 33
"""Most points of a curve in the page."""
ALL_POINTS = 40_000
"""Most points of all curves in the page."""
ACROSS, DOWN = 240, 150
"""Size of the curves' field in the page."""
DASHES: Mapping[str, str] = {"used": "", "masked": "6 3", "softmax": "2 3"}
STEPS = 3
"""Colours on either side of no difference."""

Curves = Mapping[str, Sequence[object]]


def heat_maps(models: ReportModels, table: str) -> HeatMaps | None:
    """Return the ranks as panels: per model and map, and between two models their difference.

    `table` is the id of the table with the same heads.
    """
    found = [maps for maps in models.maps if maps.ranks.size]
    if not found:
        return None
    tokens = max(maps.tokens for maps in found)
    top = max((float(np.nanmax(m.ranks)) for m in found if np.isfinite(m.ranks).any()), default=2)
    edges = np.unique(np.linspace(1, max(np.ceil(top), 2), len(SEQUENTIAL) + 1).round())
    most = max(4, min(POINTS, ALL_POINTS // sum(maps.ranks.size for maps in found)))
    several = len(models) > 1
    curves = {f"m{number}": _curves(maps, most) for number, maps in enumerate(found)}
    panels = [
        Panel(
            key=key,
            title=maps.label(found) if several else map_label(maps.kind),
            look=role_of(maps.look.colour) or "axis",
            dash=DASHES[maps.kind],
            cells=[[_cell(rank, edges) for rank in layer] for layer in maps.ranks],
            curve=_first_curve(curves[key], tokens),
        )
        for key, maps in zip(curves, found, strict=True)
    ]
    change = _change(models, found)
    return HeatMaps(
        title="Rank of the attention map of each layer and head",
        caption=f"{_finding(found)} {rank_method(models.run, found)} One scale for all, 1 to "
        f"{edges[-1]:.0f}, the largest; {tokens} tokens.{change[1] if change else ''}",
        panels=[*panels, *([change[0]] if change else [])],
        legend=[
            (f"q{number}", f"{low:.0f}\N{EN DASH}{high:.0f}")
            for number, (low, high) in enumerate(_ranges(edges))
        ],
        tokens=tokens,
        threshold=threshold_of(models.run),
        curves=curves,
        table=table,
    )


def _cell(rank: float, edges: Array) -> Cell:
    if not np.isfinite(rank):
        return Cell(text=show_rank(rank))
    bin_ = int(np.clip(np.searchsorted(edges, rank, side="right") - 1, 0, len(edges) - 2))
    return Cell(text=show_rank(rank), tone=f"q{bin_}")


def _ranges(edges: Array) -> Iterator[tuple[float, float]]:
    """Yield the whole ranks from and to which each colour goes."""
    for low, high in pairwise(edges):
        yield low, high if high == edges[-1] else max(low, high - 1)


def _curves(maps: Maps, most: int) -> Curves:
    """Return x [point] and y [cell, point], cells by layer, then head; y in thousandths."""
    known = sorted({x for curve in maps.curves.values() for x in curve.x})
    picked = np.unique(np.linspace(0, max(len(known) - 1, 0), most).round().astype(int))
    x = [known[place] for place in picked] if known else []
    y = []
    for layer, head in np.ndindex(*maps.ranks.shape):
        curve = maps.curves.get((layer + 1, head + 1))
        values = np.interp(x, curve.x, curve.y) if curve else np.array([])
        y.append(np.rint(1000 * values).astype(int).tolist())
    return {"x": [int(place) for place in x], "y": y}


def _first_curve(curves: Curves, tokens: int) -> str:
    """Return the points of the first cell's curve, as SVG reads them."""
    first = curves["y"][0] if curves["y"] else []
    assert isinstance(first, list)
    points = zip([0, *curves["x"]], [0, *first], strict=False)
    return " ".join(
        f"{ACROSS * x / tokens:.1f},{DOWN - DOWN * y / 1000:.1f}"  # type: ignore[operator]  # numbers
        for x, y in points
    )


def _change(models: ReportModels, found: Sequence[Maps]) -> tuple[Panel, str] | None:
    """Return the second model's ranks less the first's, and how they are read."""
    used = [maps for maps in found if maps.kind == "used"]
    if len(used) != PAIR or used[0].ranks.shape != used[1].ranks.shape:
        return None
    change = used[1].ranks - used[0].ranks
    if models.apart or not np.isfinite(change).any():
        return None
    most = float(np.nanmax(np.abs(change))) or 1.0
    cells = [[_change_cell(value, most) for value in layer] for layer in change]
    first, second = (model.symbol for model in models)
    title = f"used maps: {second} \N{MINUS SIGN} {first}"
    words = f" Difference of the used maps: from \N{MINUS SIGN}{most:.4g} to +{most:.4g}."
    return Panel(key="change", title=title, look="axis", dash="", cells=cells), words


def _change_cell(value: float, most: float) -> Cell:
    if not np.isfinite(value):
        return Cell(text=show_rank(value))
    text = signed(f"{value:.4g}")
    step = STEPS + round(STEPS * value / most)
    return Cell(text=f"+{text}" if value > 0 else text, tone=f"d{step}")


def _finding(found: Sequence[Maps]) -> str:
    """Return the lowest and the highest rank of every used map."""
    return " ".join(
        range_of_ranks(maps)
        for maps in found
        if maps.kind == "used" and np.isfinite(maps.ranks).any()
    )
