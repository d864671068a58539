"""Several models side by side: a row for each, a column for each metric, and which is best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from msgspec.structs import replace as replace_row

from illama.suggestions import did_you_mean
from illama_eval.compare.change import Change, Side
from illama_eval.compare.comparison import Comparison, compare, find_best, paths_of
from illama_eval.compare.subject_run import Key, SubjectRun, read_subject_runs
from illama_eval.results import ResultError, Row, nested_get
from illama_eval.statistics import mean_interval

COLUMNS: Mapping[str, tuple[str, str]] = {
    "top1": ("accuracy", "top1"),
    "top5": ("accuracy", "top5"),
    "nll": ("accuracy", "nll"),
    "ece": ("calibration", "ece"),
    "ece_scaled": ("calibration", "ece_scaled"),
    "brier": ("calibration", "brier"),
    "rank": ("rank", "rank_of_mean_map"),
    "rank_per_image": ("rank", "rank_per_image"),
    "shape_bias": ("shape_bias", "shape_bias"),
    "miou": ("segmentation", "miou_whole"),
}
"""Short names of columns -> (study, metric); any other is STUDY.METRIC."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric of the table."""

    study: str
    metric: str
    better: str | None = None
    """`higher` or `lower`, as the studies declare it; None where neither is better."""

    @property
    def key(self) -> Key:
        """Return the key of the metric's row for the whole source."""
        return self.study, self.metric, ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of one model."""

    row: Row | None
    """With its 95 % interval; of several seeds their mean, with Student's t over the seeds."""
    seeds: int = 1
    best: bool = False
    """Whether it is better than every other model's, each by a paired difference."""
    change: Change | None = None
    """Difference to the reference model, where there is one and the images are the same."""


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model of the table."""

    name: str
    source: str
    images: int
    seeds: int
    cells: tuple[Cell, ...]
    """As many as there are columns."""


@dataclass(frozen=True, kw_only=True)
class ModelTable:
    """Models as rows, metrics as columns."""

    columns: tuple[Column, ...]
    rows: tuple[ModelRow, ...]
    same_images: bool
    """Whether all models were measured on the same images."""
    reference: str = ""
    """The model that `Cell.change` compares with; empty: none."""


def read_model_table(
    runs: Sequence[str],
    columns: Sequence[str],
    names: Mapping[str, str] | None = None,
    reference: str | None = None,
) -> ModelTable:
    """Return the table of the models of some runs; `A1,A2,A3` are the training seeds of one model.

    `names` gives models other names, by subject or by path; `reference` is the name of the model
    that all others are compared with.

    Raises:
        ResultError: a run cannot be read, a column is in none of them, or a name fits no model.
    """
    sides = _named(_sides(runs), names or {})
    found = tuple(_column(name, sides.values()) for name in columns)
    if reference is not None and reference not in sides:
        raise ResultError(f"no model {reference!r} to compare with; there are {', '.join(sides)}")
    shown = {name: _only(side, found) for name, side in sides.items()}
    order = sorted(shown, key=lambda name: name != reference)
    compared = {
        (one, other): compare(shown[one], shown[other]) for one, other in combinations(order, 2)
    }
    by_column = [_cells_of(column, shown, order, compared, reference) for column in found]
    return ModelTable(
        columns=found,
        rows=tuple(map(_model_row, shown, shown.values(), zip(*by_column, strict=True))),
        same_images=len({_fingerprint(each) for side in sides.values() for each in side}) == 1,
        reference=reference or "",
    )


def _sides(runs: Sequence[str]) -> Iterator[Side]:
    for given in runs:
        read = [read_subject_runs(path) for path in paths_of(given)]
        if len(read) == 1:
            yield from ([each] for each in read[0])
            continue
        several = [each[0].path for each in read if len(each) > 1]
        if several:
            raise ResultError(f"{several[0]}: several subjects; training seeds are runs of one")
        yield [each[0] for each in read]


def _named(sides: Iterable[Side], names: Mapping[str, str]) -> dict[str, Side]:
    """Return the sides by name: the given one, else the subject; no two alike."""
    found: dict[str, Side] = {}
    unused = set(names)
    for side in sides:
        first = side[0]
        keys = (first.path, Path(first.path).name, first.subject)
        key = next((each for each in keys if each in names), None)
        unused.discard(key or "")
        name = first.subject if key is None else names[key]
        if name in found:
            name = f"{name} ({Path(first.path).name})"
        if name in found:
            raise ResultError(f"{first.path}: the model {name} is in the table already")
        found[name] = side
    if unused:
        raise ResultError(f"no model {min(unused)!r} to rename; there are {', '.join(found)}")
    return found


def _column(name: str, sides: Iterable[Side]) -> Column:
    """Return the column of a name: a short one, or STUDY.METRIC.

    Raises:
        ResultError: no run has such a row for the whole source.
    """
    study, _, metric = name.partition(".")
    wanted = COLUMNS.get(name, (study, metric))
    runs = [run for side in sides for run in side]
    if not any((*wanted, ()) in run.rows for run in runs):
        raise ResultError(_unknown(name, runs))
    declared = (nested_get(run.header, "metrics", *wanted, "better") for run in runs)
    better = next((each for each in declared if each in {"higher", "lower"}), None)
    return Column(study=wanted[0], metric=wanted[1], better=better)


def _unknown(name: str, runs: Iterable[SubjectRun]) -> str:
    keys = dict.fromkeys(key[:2] for run in runs for key in run.rows if not key[2])
    known = [short for short, full in COLUMNS.items() if full in keys]
    known += [".".join(key) for key in keys if key not in COLUMNS.values()]
    hint = did_you_mean(name, known)
    return f"column {name}: in none of the runs{hint}; there are {', '.join(known)}"


def _only(side: Side, columns: Iterable[Column]) -> Side:
    """Return the side with the rows of the columns alone: the family of tests is the table.

    Raises:
        ResultError: it has none of them.
    """
    keys = [column.key for column in columns]
    kept = [
        replace(run, rows={key: run.rows[key] for key in keys if key in run.rows}) for run in side
    ]
    empty = next((run for run in kept if not run.rows), None)
    if empty is not None:
        raise ResultError(f"{empty.path}: {empty.subject} has none of the columns")
    return kept


def _cells_of(
    column: Column,
    shown: Mapping[str, Side],
    order: Sequence[str],
    compared: Mapping[tuple[str, str], Comparison],
    reference: str | None,
) -> list[Cell]:
    """Return a column's cells, one for each model shown; `order` is that of the comparisons."""
    change_of = partial(_change, compared, column)
    best = find_best(order, change_of)
    return [
        Cell(
            row=_mean_row([run.rows.get(column.key) for run in side]),
            seeds=len(side),
            best=name == best,
            change=change_of(reference or "", name),
        )
        for name, side in shown.items()
    ]


def _model_row(name: str, side: Side, cells: tuple[Cell, ...]) -> ModelRow:
    rows = [row for run in side for row in run.rows.values()]
    return ModelRow(
        name=name,
        source=rows[0].source,
        images=max(row.images for row in rows),
        seeds=len(side),
        cells=cells,
    )


def _mean_row(rows: Sequence[Row | None]) -> Row | None:
    """Return the row of one run, or the mean of several with its interval over seeds."""
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return None
    values = [row.value for row in known if row.value is not None]
    if len(known) == 1 or len(values) < len(known):
        return known[0]
    low, high = mean_interval(values)
    return replace_row(known[0], value=float(np.mean(values)), low=low, high=high, replicates=None)


def _change(
    compared: Mapping[tuple[str, str], Comparison], column: Column, first: str, second: str
) -> Change | None:
    """Return the change of a column from one model to another, where it is known."""
    comparison = compared.get((first, second))
    changes = () if comparison is None else comparison.changes
    found = next((each for each in changes if each.key == column.key), None)
    return None if found is None or found.problem or found.difference is None else found


def _fingerprint(run: SubjectRun) -> str:
    return str(nested_get(run.header, "identity", "source", "fingerprint"))
