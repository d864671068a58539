"""Ranks and singular values of each subject's attention maps, taken from a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from illama_eval.render.format.glossary import map_label
from illama_eval.render.format.numbers import MISSING
from illama_eval.render.select import Array, head_grid, images_of, parameter
from illama_eval.render.style.palette import Identity, looks_of
from illama_eval.results import Curve, Run

Dash: TypeAlias = Literal["-"] | tuple[float, Sequence[float]]

DASHES: Mapping[str, Dash] = {"used": "-", "masked": (0, (5, 2)), "softmax": (0, (1, 1.6))}
"""How the line of each map is drawn: the used one first, then the controls."""

MOST_WITH_CONTROLS = 2
"""Subjects whose controls still fit into one plot; of more, the used maps alone are drawn."""


@dataclass(frozen=True, kw_only=True)
class Maps:
    """One kind of map of one subject."""

    subject: str
    look: Identity
    kind: str
    ranks: Array
    """Rank of the mean map, [layer, head]; NaN where undefined."""
    curves: Mapping[tuple[int, int], Curve]
    """Cumulative share of the singular values, by layer and head."""

    @property
    def tokens(self) -> int:
        """The largest rank there can be: how many singular values a map has."""
        longest = max((curve.x[-1] for curve in self.curves.values()), default=0.0)
        highest = np.nanmax(self.ranks) if np.isfinite(self.ranks).any() else 1
        return int(max(longest, highest))

    @cached_property
    def median(self) -> Array:
        """The median of the heads, [layer]."""
        known = np.isfinite(self.ranks).any(axis=1)
        median = np.full(len(self.ranks), np.nan)
        median[known] = np.nanmedian(self.ranks[known], axis=1)
        return median

    def lines(self, layer: int) -> tuple[Array, Array] | None:
        """Return indices [point] and each head's cumulative share in percent, [head, point]."""
        curves = [curve for (at, _), curve in self.curves.items() if at == layer]
        if not curves:
            return None
        x = np.unique(np.concatenate([curve.x for curve in curves]))
        return x, np.array([100 * np.interp(x, curve.x, curve.y) for curve in curves])

    def label(self, among: Sequence[Maps]) -> str:
        """Return the map's name, with its subject's where there are several."""
        several = len({maps.subject for maps in among}) > 1
        name = map_label(self.kind)
        return f"{self.look.label}: {name}" if several else name


def maps_of(run: Run) -> list[Maps]:
    """Return each subject's maps, kind by kind; kinds without ranks and curves are left out."""
    curves: dict[tuple[str, str], dict[tuple[int, int], Curve]] = {}
    for curve in run.curves:
        if curve.study == "rank" and {"layer", "head"} <= set(curve.at):
            kind = str(curve.at.get("map", "used"))
            head = int(curve.at["layer"]), int(curve.at["head"])
            curves.setdefault((curve.subject, kind), {})[head] = curve
    found = []
    for subject, look in looks_of(run):
        for kind in DASHES:
            fixed = {} if kind == "used" else {"map": kind}
            ranks = head_grid(run, "rank", "rank_of_mean_map", subject, **fixed)
            lines = curves.get((subject, kind), {})
            if ranks.size or lines:
                found.append(Maps(subject=subject, look=look, kind=kind, ranks=ranks, curves=lines))
    return found


def drawn_together(run: Run) -> list[Maps]:
    """Return the maps that one plot can hold: with controls for at most two subjects."""
    found = maps_of(run)
    several = len({maps.subject for maps in found}) > MOST_WITH_CONTROLS
    return [maps for maps in found if maps.kind == "used" or not several]


def threshold_of(run: Run) -> float:
    """Return the share of the singular values' sum that defines the rank."""
    return parameter(run, "rank", "threshold", 0.8)


def rank_method(run: Run, found: Sequence[Maps]) -> str:
    """Return how the rank is defined, and how these maps and their controls compare."""
    if len({maps.subject for maps in found}) > 1:
        note = " A mask alone moves the rank: compare used maps with masked ones."
    else:
        same = [map_label(kind) for kind in DASHES if kind not in {maps.kind for maps in found}]
        note = f" “{' and '.join(same)}” equals the used map and is not drawn." if same else ""
    return (
        f"Rank: how many singular values of the mean map over {images_of(run, 'rank')} make "
        f"{100 * threshold_of(run):.4g} % of their sum.{note}"
    )


def range_of_ranks(maps: Maps) -> str:
    """Return the lowest and the highest rank of a map and where they are, as a sentence."""
    known = np.isfinite(maps.ranks)
    if not known.any():
        return f"{maps.look.label}: no rank is defined."
    places = [
        np.unravel_index(pick(np.where(known, maps.ranks, fill)), maps.ranks.shape)
        for pick, fill in ((np.argmin, np.inf), (np.argmax, -np.inf))
    ]
    low, high = (
        f"{show_rank(maps.ranks[place])} in layer {place[0] + 1}, head {place[1] + 1}"
        for place in places
    )
    return f"{maps.look.label}, {map_label(maps.kind)}: from {low}, to {high}."


def show_rank(rank: float) -> str:
    """Return a rank or the median of ranks: `129`, `128.5`, or a dash."""
    return f"{rank:.4g}" if np.isfinite(rank) else MISSING
