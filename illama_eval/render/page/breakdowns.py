"""Tables of numbers by layer, head, bin or class: a line for each, a column for each metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import (
    anchor,
    metric_label,
    place_label,
    study_title,
    unit_label,
)
from illama_eval.render.format.numbers import show_row, show_value
from illama_eval.render.models import ReportModels
from illama_eval.render.page.document import Cell, Column, Table
from illama_eval.render.page.headline import spaced
from illama_eval.render.select import direction
from illama_eval.results import Row

Keys = tuple[str, ...]
Position = tuple[str, ...]

DEFAULTS: Mapping[str, str] = {"map": "used", "scaled": "no"}
"""Keys of `at` that rows may leave out -> the value that is meant then."""
HIGH_IS_INFORMATIVE = frozenset({"similarity", "similar_share"})
"""Metrics without a better side of which the highest values are kept."""
WITH_INTERVALS = 400
"""Lines up to which cells show their intervals."""
_LONGEST = 80


@dataclass(kw_only=True)
class Breakdown:
    """Rows of one study with the same keys of `at`."""

    study: str
    keys: tuple[str, ...]
    """`model`, where there are several, then those of `at`."""
    metrics: dict[str, str] = field(default_factory=dict)
    """Metric -> unit as shown."""
    cells: dict[str, dict[Position, Row]] = field(default_factory=dict)
    """Metric -> position -> row."""

    @property
    def key(self) -> str:
        """Return the id of its table."""
        return anchor("-".join([self.study, *(key for key in self.keys if key != "model")]))

    @cached_property
    def positions(self) -> list[Position]:
        """The positions: numbers ascending, words as they first appear."""
        every = dict.fromkeys(chain.from_iterable(self.cells.values()))
        columns = [dict.fromkeys(column) for column in zip(*every, strict=True)]
        ranks = [
            {word: int(word) if word.isdecimal() else number for number, word in enumerate(column)}
            for column in columns
        ]
        return sorted(
            every, key=lambda words: [rank[word] for word, rank in zip(words, ranks, strict=True)]
        )


def breakdowns_of(models: ReportModels, study: str) -> list[Breakdown]:
    """Return the study's rows by position, a breakdown for each set of keys."""
    labels = {model.name: model.label for model in models}
    first = ("model",) if len(labels) > 1 else ()
    groups = [
        (subject, metric, own, rows)
        for (subject, of, metric), found in models.run.by_metric.items()
        if of == study
        for own, rows in _by_keys(found)
    ]
    keys_of = _keys_of(own for _, _, own, _ in groups)
    breakdowns: dict[Keys, Breakdown] = {}
    given: object = None
    positions: list[Position] = []
    for subject, metric, own, rows in groups:
        keys = keys_of[own]
        if not keys:
            continue
        breakdown = breakdowns.setdefault(keys, Breakdown(study=study, keys=(*first, *keys)))
        breakdown.metrics.setdefault(metric, unit_label(show_row(rows[0]).unit))
        wanted = ([row.at for row in rows], keys, subject)
        if wanted != given:  # most metrics have the positions of the one before
            given = wanted
            positions = _positions_of(rows, keys, (labels[subject],) if first else ())
        breakdown.cells.setdefault(metric, {}).update(zip(positions, rows, strict=True))
    return list(breakdowns.values())


def _by_keys(rows: Sequence[Row]) -> Iterable[tuple[Keys, Sequence[Row]]]:
    """Return the rows by the keys of their `at`."""
    found: defaultdict[Keys, list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row.at)].append(row)
    return found.items()


def _positions_of(rows: Iterable[Row], keys: Keys, first: Position) -> list[Position]:
    """Return the position of each row, after the values `first`."""
    return [(*first, *(str(row.at.get(key, DEFAULTS.get(key))) for key in keys)) for row in rows]


def to_table(models: ReportModels, breakdown: Breakdown, most: int, file: str) -> Table:
    """Return the breakdown as a table of at most `most` lines, with a note on their choice."""
    positions: Sequence[Position] = breakdown.positions
    chosen = ""
    if len(positions) > most:
        positions, chosen = _most_informative(models, breakdown, positions, most)
    columns = [
        Column(
            label=place_label(key),
            filterable=True,
            number=all(position[at].isdecimal() for position in breakdown.positions),
        )
        for at, key in enumerate(breakdown.keys)
    ]
    columns += [
        Column(label=metric_label(metric), unit=unit, number=True)
        for metric, unit in breakdown.metrics.items()
    ]
    by_metric = [_cells(breakdown, metric, positions) for metric in breakdown.metrics]
    rows = [
        [*(Cell(text=sanitize(word, _LONGEST)) for word in position), *cells]
        for position, *cells in zip(positions, *by_metric, strict=True)
    ]
    words = ", ".join(place_label(key) for key in breakdown.keys if key != "model")
    return Table(
        key=breakdown.key,
        caption=f"{study_title(breakdown.study)} by {words}",
        columns=columns,
        rows=rows,
        total=len(breakdown.positions),
        chosen=chosen,
        file=file,
        long=True,
    )


def _keys_of(given: Iterable[Keys]) -> dict[Keys, Keys]:
    """Return the keys of the breakdown for those of its rows; only rows may leave out a default."""
    bare = {keys: tuple(key for key in keys if key not in DEFAULTS) for keys in given}
    more: dict[Keys, set[str]] = {}
    for keys, kept in bare.items():
        more.setdefault(kept, set()).update(DEFAULTS.keys() & set(keys))
    return {
        keys: (*kept, *(key for key in DEFAULTS if key in more[kept]))
        for keys, kept in bare.items()
    }


def _most_informative(
    models: ReportModels, breakdown: Breakdown, positions: Sequence[Position], most: int
) -> tuple[list[Position], str]:
    """Return the positions whose first metric is worst, in order, and a note on the choice."""
    metric = next(iter(breakdown.metrics))
    rows = breakdown.cells[metric]
    lower = direction(models.run, next(iter(rows.values()))) == "lower"
    high = lower or metric in HIGH_IS_INFORMATIVE
    sign = -1 if high else 1

    def order(position: Position) -> tuple[bool, float]:
        row = rows.get(position)
        value = row.value if row else None
        return value is None, sign * (value or 0.0)

    kept = set(sorted(positions, key=order)[:most])
    words = f"those of {'highest' if high else 'lowest'} {metric_label(metric)}"
    return [position for position in positions if position in kept], words


def _cells(breakdown: Breakdown, metric: str, positions: Sequence[Position]) -> list[Cell]:
    rows = list(map(breakdown.cells[metric].get, positions))
    values = spaced([show_value(row) if row else "" for row in rows])
    full = len(positions) <= WITH_INTERVALS
    return [
        Cell(text=value, note=_note(row, full=full) if row else "")
        for row, value in zip(rows, values, strict=True)
    ]


def _note(row: Row, *, full: bool) -> str:
    """Return why there is no value, or its interval where cells show them."""
    if row.value is None:
        return sanitize(row.reason, _LONGEST)
    return show_row(row).interval if full and row.low is not None and row.high is not None else ""
