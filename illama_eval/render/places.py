"""Numbers by layer, head, bin or class as tables: a line for each place, a column per metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from illama_eval.render.document import Cell, Column, Table
from illama_eval.render.headline import spaced
from illama_eval.render.lineup import Lineup
from illama_eval.render.number import MISSING, show_row
from illama_eval.render.select import better
from illama_eval.render.text import plain
from illama_eval.render.words import anchor, metric_label, study_title, unit_label
from illama_eval.result import Row

Place = tuple[str, ...]

DEFAULTS: Mapping[str, str] = {"map": "used", "scaled": "no"}
"""Keys of a place that rows leave out for the plain case."""
HIGH_IS_TELLING = frozenset({"similarity", "similar_share"})
"""Metrics without a better side of which the highest values are shown first."""
WITH_INTERVALS = 400
"""Rows up to which cells show their intervals."""
_LONGEST = 80


@dataclass(kw_only=True)
class Grid:
    """Rows of one study that share the keys of their places."""

    study: str
    keys: tuple[str, ...]
    """`model`, where there are several, then those of the places."""
    metrics: dict[str, str] = field(default_factory=dict)
    """Metric -> unit as shown."""
    lines: dict[Place, dict[str, Row]] = field(default_factory=dict)
    """Place -> metric -> row."""

    @property
    def key(self) -> str:
        """Return the table's id."""
        return anchor("-".join([self.study, *(key for key in self.keys if key != "model")]))

    def ordered(self) -> list[Place]:
        """Return the places: numbers ascending, words as they first appear."""
        columns = [dict.fromkeys(column) for column in zip(*self.lines, strict=True)]
        ranks = [{word: number for number, word in enumerate(column)} for column in columns]

        def order(place: Place) -> list[int]:
            return [
                int(word) if word.isdecimal() else rank[word]
                for word, rank in zip(place, ranks, strict=True)
            ]

        return sorted(self.lines, key=order)


def grids_of(lineup: Lineup, study: str) -> list[Grid]:
    """Return the study's rows by place, a grid for each set of keys."""
    mine = [row for row in lineup.run.rows if row.study == study]
    given = [tuple(row.at) for row in mine]
    keys_of = _keys_of(set(given))
    labels = {model.name: model.label for model in lineup.models}
    several = ("model",) if len(labels) > 1 else ()
    grids: dict[Place, Grid] = {}
    lines: dict[Place, defaultdict[tuple[object, ...], dict[str, Row]]] = {}
    for row, own in zip(mine, given, strict=True):
        keys = keys_of[own]
        if not keys:
            continue
        if keys not in grids:
            grids[keys] = Grid(study=study, keys=(*several, *keys))
            lines[keys] = defaultdict(dict)
        metrics = grids[keys].metrics
        if row.metric not in metrics:
            metrics[row.metric] = unit_label(show_row(row).unit)
        at = row.at
        here: Iterable[object] = at.values()
        if own != keys:
            here = [at.get(key, DEFAULTS.get(key)) for key in keys]
        lines[keys][row.subject, *here][row.metric] = row
    for keys, grid in grids.items():
        for (subject, *values), line in lines[keys].items():
            place = (*([labels[str(subject)]] if several else []), *map(str, values))
            grid.lines.setdefault(place, {}).update(line)
    return list(grids.values())


def to_table(lineup: Lineup, grid: Grid, most: int, file: str) -> Table:
    """Return at most so many lines of the grid as a table, and how they were chosen."""
    places = grid.ordered()
    chosen = ""
    if len(places) > most:
        places, chosen = _most_telling(lineup, grid, places, most)
    columns = [
        Column(
            label=plain(key, _LONGEST),
            place=True,
            number=all(place[at].isdecimal() for place in grid.lines),
        )
        for at, key in enumerate(grid.keys)
    ]
    columns += [
        Column(label=metric_label(metric), unit=unit, number=True)
        for metric, unit in grid.metrics.items()
    ]
    by_metric = [_cells(grid, metric, places) for metric in grid.metrics]
    rows = [
        [*(Cell(text=plain(word, _LONGEST)) for word in place), *cells]
        for place, *cells in zip(places, *by_metric, strict=True)
    ]
    words = ", ".join(plain(key, _LONGEST) for key in grid.keys if key != "model")
    return Table(key=grid.key, caption=f"{study_title(grid.study)} by {words}", columns=columns,
                 rows=rows, total=len(grid.lines), chosen=chosen, file=file, long=True)  # fmt: skip


def _keys_of(places: Iterable[Place]) -> dict[Place, Place]:
    """Return for the keys that rows have those of their grid, where a plain case is written out."""
    bare = {keys: tuple(key for key in keys if key not in DEFAULTS) for keys in places}
    more: dict[Place, set[str]] = {}
    for keys, kept in bare.items():
        more.setdefault(kept, set()).update(DEFAULTS.keys() & set(keys))
    return {
        keys: (*kept, *(key for key in DEFAULTS if key in more[kept]))
        for keys, kept in bare.items()
    }


def _most_telling(
    lineup: Lineup, grid: Grid, places: Sequence[Place], most: int
) -> tuple[list[Place], str]:
    """Return the places whose first metric is worst, in their order, and which those are."""
    metric = next(iter(grid.metrics))
    some = next(row for line in grid.lines.values() for name, row in line.items() if name == metric)
    high = better(lineup.run, some) == "lower" or metric in HIGH_IS_TELLING
    sign = -1 if high else 1

    def telling(place: Place) -> tuple[bool, float]:
        row = grid.lines[place].get(metric)
        value = row.value if row else None
        return value is None, sign * (value or 0.0)

    kept = set(sorted(places, key=telling)[:most])
    words = f"those of {'highest' if high else 'lowest'} {metric_label(metric)}"
    return [place for place in places if place in kept], words


def _cells(grid: Grid, metric: str, places: Sequence[Place]) -> list[Cell]:
    rows = [grid.lines[place].get(metric) for place in places]
    shown = [show_row(row) if row else None for row in rows]
    values = spaced([each.value if each else "" for each in shown])
    full = len(places) <= WITH_INTERVALS
    cells = []
    for row, each, value in zip(rows, shown, values, strict=True):
        note = ""
        if each is not None and row is not None:
            why = row.reason if each.value == MISSING else ""
            note = plain(why, _LONGEST) if why else each.interval if each.low and full else ""
        cells.append(Cell(text=value, note=note))
    return cells
