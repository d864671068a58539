"""Numbers by layer, head, bin or class as tables: a line for each place, a column per metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import anchor, metric_label, study_title, unit_label
from illama_eval.render.format.numbers import show_row, show_value
from illama_eval.render.models import ReportModels
from illama_eval.render.page.document import Cell, Column, Table
from illama_eval.render.page.headline import spaced
from illama_eval.render.select import direction
from illama_eval.results import Row

Keys = tuple[str, ...]
Place = tuple[str, ...]

DEFAULTS: Mapping[str, str] = {"map": "used", "scaled": "no"}
"""Keys of a place that rows leave out for the plain case."""
HIGH_IS_TELLING = frozenset({"similarity", "similar_share"})
"""Metrics without a better side of which the highest values are shown first."""
WITH_INTERVALS = 400
"""Rows up to which cells show their intervals."""
_LONGEST = 80


@dataclass(kw_only=True)
class Breakdown:
    """Rows of one study that share the keys of their places."""

    study: str
    keys: tuple[str, ...]
    """`model`, where there are several, then those of the places."""
    metrics: dict[str, str] = field(default_factory=dict)
    """Metric -> unit as shown."""
    cells: dict[str, dict[Place, Row]] = field(default_factory=dict)
    """Metric -> place -> row."""

    @property
    def key(self) -> str:
        """Return the table's id."""
        return anchor("-".join([self.study, *(key for key in self.keys if key != "model")]))

    @cached_property
    def places(self) -> list[Place]:
        """The places: numbers ascending, words as they first appear."""
        every = dict.fromkeys(chain.from_iterable(self.cells.values()))
        columns = [dict.fromkeys(column) for column in zip(*every, strict=True)]
        ranks = [
            {word: int(word) if word.isdecimal() else number for number, word in enumerate(column)}
            for column in columns
        ]
        return sorted(
            every, key=lambda place: [rank[word] for word, rank in zip(place, ranks, strict=True)]
        )


def grids_of(lineup: ReportModels, study: str) -> list[Breakdown]:
    """Return the study's rows by place, a grid for each set of keys."""
    labels = {model.name: model.label for model in lineup.models}
    first = ("model",) if len(labels) > 1 else ()
    groups = [
        (subject, metric, own, rows)
        for (subject, of, metric), found in lineup.run.by_metric.items()
        if of == study
        for own, rows in _by_keys(found)
    ]
    keys_of = _keys_of(own for _, _, own, _ in groups)
    grids: dict[Keys, Breakdown] = {}
    given: object = None
    places: list[Place] = []
    for subject, metric, own, rows in groups:
        keys = keys_of[own]
        if not keys:
            continue
        grid = grids.setdefault(keys, Breakdown(study=study, keys=(*first, *keys)))
        grid.metrics.setdefault(metric, unit_label(show_row(rows[0]).unit))
        wanted = ([row.at for row in rows], keys, subject)
        if wanted != given:  # metrics mostly lie at the places of the one before
            given, places = wanted, _places_of(rows, keys, (labels[subject],) if first else ())
        grid.cells.setdefault(metric, {}).update(zip(places, rows, strict=True))
    return list(grids.values())


def _by_keys(rows: Sequence[Row]) -> Iterable[tuple[Keys, Sequence[Row]]]:
    """Return the rows by the keys of their places."""
    found: defaultdict[Keys, list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row.at)].append(row)
    return found.items()


def _places_of(rows: Iterable[Row], keys: Keys, first: Place) -> list[Place]:
    """Return the place of each row, `first` before its own."""
    return [(*first, *(str(row.at.get(key, DEFAULTS.get(key))) for key in keys)) for row in rows]


def to_table(lineup: ReportModels, grid: Breakdown, most: int, file: str) -> Table:
    """Return at most so many lines of the grid as a table, and how they were chosen."""
    places: Sequence[Place] = grid.places
    chosen = ""
    if len(places) > most:
        places, chosen = _most_telling(lineup, grid, places, most)
    columns = [
        Column(
            label=sanitize(key, _LONGEST),
            place=True,
            number=all(place[at].isdecimal() for place in grid.places),
        )
        for at, key in enumerate(grid.keys)
    ]
    columns += [
        Column(label=metric_label(metric), unit=unit, number=True)
        for metric, unit in grid.metrics.items()
    ]
    by_metric = [_cells(grid, metric, places) for metric in grid.metrics]
    rows = [
        [*(Cell(text=sanitize(word, _LONGEST)) for word in place), *cells]
        for place, *cells in zip(places, *by_metric, strict=True)
    ]
    words = ", ".join(sanitize(key, _LONGEST) for key in grid.keys if key != "model")
    return Table(
        key=grid.key,
        caption=f"{study_title(grid.study)} by {words}",
        columns=columns,
        rows=rows,
        total=len(grid.places),
        chosen=chosen,
        file=file,
        long=True,
    )


def _keys_of(given: Iterable[Keys]) -> dict[Keys, Keys]:
    """Return for the keys that rows have those of their grid, where a plain case is written out."""
    bare = {keys: tuple(key for key in keys if key not in DEFAULTS) for keys in given}
    more: dict[Keys, set[str]] = {}
    for keys, kept in bare.items():
        more.setdefault(kept, set()).update(DEFAULTS.keys() & set(keys))
    return {
        keys: (*kept, *(key for key in DEFAULTS if key in more[kept]))
        for keys, kept in bare.items()
    }


def _most_telling(
    lineup: ReportModels, grid: Breakdown, places: Sequence[Place], most: int
) -> tuple[list[Place], str]:
    """Return the places whose first metric is worst, in their order, and which those are."""
    metric = next(iter(grid.metrics))
    rows = grid.cells[metric]
    high = direction(lineup.run, next(iter(rows.values()))) == "lower" or metric in HIGH_IS_TELLING
    sign = -1 if high else 1

    def telling(place: Place) -> tuple[bool, float]:
        row = rows.get(place)
        value = row.value if row else None
        return value is None, sign * (value or 0.0)

    kept = set(sorted(places, key=telling)[:most])
    words = f"those of {'highest' if high else 'lowest'} {metric_label(metric)}"
    return [place for place in places if place in kept], words


def _cells(grid: Breakdown, metric: str, places: Sequence[Place]) -> list[Cell]:
    rows = list(map(grid.cells[metric].get, places))
    values = spaced([show_value(row) if row else "" for row in rows])
    full = len(places) <= WITH_INTERVALS
    return [
        Cell(text=value, note=_note(row, full=full) if row else "")
        for row, value in zip(rows, values, strict=True)
    ]


def _note(row: Row, *, full: bool) -> str:
    """Return why there is no value, or its interval where cells show them."""
    if row.value is None:
        return sanitize(row.reason, _LONGEST)
    return show_row(row).interval if full and row.low is not None and row.high is not None else ""
