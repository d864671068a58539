"""Several models side by side: a row for each, a column for each metric, and which is best."""

from __future__ import annotations

import re
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
from illama_eval.units import unit_of

COLUMNS: Mapping[str, str] = {
    "top1": "accuracy.top1",
    "top5": "accuracy.top5",
    "nll": "accuracy.nll",
    "ece": "calibration.ece",
    "ece_scaled": "calibration.ece_scaled",
    "brier": "calibration.brier",
    "rank": "rank.rank_of_mean_map",
    "rank_softmax": "rank.rank_of_mean_map[map=softmax]",
    "rank_masked": "rank.rank_of_mean_map[map=masked]",
    "rank_per_image": "rank.rank_per_image",
    "shape_bias": "shape_bias.shape_bias",
    "miou": "segmentation.miou_whole",
}
"""Short names of columns -> what they stand for; any other is STUDY.METRIC, or one of its maps,
STUDY.METRIC[map=NAME], STUDY.METRIC[layer=3] or the like."""
USUAL = ("top1", "ece", "rank")
"""The columns where none are named, as far as they were measured."""
_COLUMN = re.compile(r"(?P<study>\w+)\.(?P<metric>\w+)(\[(?P<key>\w+)=(?P<word>[^\]]+)\])?")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric of the table."""

    study: str
    metric: str
    at: tuple[tuple[str, int | str], ...] = ()
    """Which map or layer is meant, such as `(("map", "masked"),)`; empty: the whole source."""
    better: str | None = None
    """`higher` or `lower`, as the studies declare it; None where neither is better."""

    @property
    def key(self) -> Key:
        """Return the key of the metric's row for the whole source."""
        return self.study, self.metric, self.at

    @property
    def name(self) -> str:
        """STUDY.METRIC, with what is meant in brackets."""
        place = ",".join(f"{key}={word}" for key, word in self.at)
        return f"{self.study}.{self.metric}" + (f"[{place}]" if place else "")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of one model."""

    row: Row | None
    """With its 95 % interval; of several seeds their mean, with Student's t over the seeds."""
    seeds: int = 1
    best: bool = False
    """Whether it is better than every other model's, each by a paired difference."""
    change: Change | None = None
    """Difference to the row's reference, where there is one and the images are the same."""


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model of the table."""

    name: str
    source: str
    images: int
    seeds: int
    cells: tuple[Cell, ...]
    """As many as there are columns."""
    reference: str = ""
    """The model that `Cell.change` compares with; empty: none."""


@dataclass(frozen=True, kw_only=True)
class ModelTable:
    """Models as rows, metrics as columns."""

    columns: tuple[Column, ...]
    rows: tuple[ModelRow, ...]
    same_images: bool
    """Whether all models were measured on the same images."""


def read_model_table(
    runs: Sequence[str],
    columns: Sequence[str] | None,
    names: Mapping[str, str] | None = None,
    references: Sequence[str] = (),
) -> ModelTable:
    """Return the table of the models of some runs; `A1,A2,A3` are the training seeds of one model.

    Without `columns` it has the usual ones that were measured. `names` gives models other names, by
    subject or by path. With `references` each model is compared with the first of them, by name,
    that was measured on the same images, and none is called the best; without, every model is
    compared with every other.

    Raises:
        ResultError: a run cannot be read, a column is in none of them, or a name fits no model.
    """
    parsed = map(parse_column, columns or ())
    everywhere = any(column is not None and column.at for column in parsed)
    sides = _named(_sides(runs, everywhere=everywhere), names or {})
    wanted = _usual(sides.values()) if columns is None else columns
    found = tuple(_column(name, sides.values()) for name in wanted)
    unknown = next((name for name in references if name not in sides), None)
    if unknown is not None:
        raise ResultError(f"no model {unknown!r} to compare with; there are {', '.join(sides)}")
    shown = {name: _only(side, found) for name, side in sides.items()}
    compared_with = {name: _reference_of(name, shown, references) for name in shown}
    pairs = [(one, other) for other, one in compared_with.items() if one]
    compared = {
        (one, other): compare(shown[one], shown[other])
        for one, other in (pairs if references else combinations(shown, 2))
    }
    by_column = [_cells_of(column, shown, compared, compared_with) for column in found]
    rows = map(_model_row, shown, shown.values(), zip(*by_column, strict=True))
    return ModelTable(
        columns=found,
        rows=tuple(replace(row, reference=compared_with[row.name]) for row in rows),
        same_images=_have_same_images(sides.values()),
    )


def _reference_of(name: str, shown: Mapping[str, Side], references: Sequence[str]) -> str:
    """Return the first reference of the same images; empty if that is the model itself, or none."""
    same = (each for each in references if _have_same_images((shown[each], shown[name])))
    found = next(same, "")
    return "" if found == name else found


def _have_same_images(sides: Iterable[Side]) -> bool:
    return len({_fingerprint(each) for side in sides for each in side}) == 1


def _sides(runs: Sequence[str], *, everywhere: bool) -> Iterator[Side]:
    for given in runs:
        read = [read_subject_runs(path, everywhere=everywhere) for path in paths_of(given)]
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


def parse_column(name: str) -> Column | None:
    """Return the column that a name means, without its better side; None if it is no such name."""
    match = _COLUMN.fullmatch(COLUMNS.get(name, name))
    if match is None:
        return None
    word = match["word"] or ""
    at = {match["key"]: int(word) if word.isdecimal() else word} if word else {}
    return Column(study=match["study"], metric=match["metric"], at=tuple(at.items()))


def _usual(sides: Iterable[Side]) -> Sequence[str]:
    """Return the usual columns that some run has; all of them where there is none."""
    measured = {key for side in sides for run in side for key in run.rows}
    columns = {name: parse_column(name) for name in USUAL}
    return [name for name, each in columns.items() if each and each.key in measured] or USUAL


def _column(name: str, sides: Iterable[Side]) -> Column:
    """Return the column of a name: a short one, or STUDY.METRIC.

    Raises:
        ResultError: no run has such a row for the whole source.
    """
    column = parse_column(name)
    runs = [run for side in sides for run in side]
    if column is None or not any(column.key in run.rows for run in runs):
        raise ResultError(_unknown(name, runs))
    path = "metrics", column.study, column.metric, "better"
    declared = (nested_get(run.header, *path) for run in runs)
    better = next((each for each in declared if each in {"higher", "lower"}), None)
    return replace(column, better=better)


def _unknown(name: str, runs: Iterable[SubjectRun]) -> str:
    keys = dict.fromkeys(".".join(key[:2]) for run in runs for key in run.rows if not key[2])
    known = [short for short, full in COLUMNS.items() if full in keys]
    known += [key for key in keys if key not in COLUMNS.values()]
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
    compared: Mapping[tuple[str, str], Comparison],
    compared_with: Mapping[str, str],
) -> list[Cell]:
    """Return a column's cells, one for each model shown."""
    change_of = partial(_change, compared, column)
    best = None if any(compared_with.values()) else find_best(list(shown), change_of)
    return [
        Cell(
            row=_mean_row([run.rows.get(column.key) for run in side]),
            seeds=len(side),
            best=name == best,
            change=change_of(compared_with[name], name),
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
    unit = unit_of(known[0].unit)
    low, high = np.clip(mean_interval(values), unit.lowest, unit.highest).tolist()
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
