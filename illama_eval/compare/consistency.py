"""Whether the parts of a stored run fit together: its files, its numbers, and its records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from illama_eval.digests import check_parts, parts_of
from illama_eval.results import ResultError, Row, Run, files_of, read_arrays
from illama_eval.units import unit_of

RECORDS = ("seen", "prediction", "rank")
"""The arrays of per_image.npz that comparing needs, beside the ids."""

Records = Mapping[str, NDArray[Any]]
"""By name, [image]."""

ROUNDING = 1e-6
"""Relative difference that the order of a sum may make."""

GUESSES: Mapping[tuple[str, str], int] = {("accuracy", "top1"): 1, ("accuracy", "top5"): 5}
"""Metrics that are the share of images whose rank, of the true class, is below this number."""
LOSS = ("accuracy", "nll")
"""The metric that is the mean of the records `nll`."""


def check_run(run: Run, path: Path | str) -> None:
    """Check that a run is of one piece, and that its numbers are possible.

    Raises:
        ResultError: a file belongs to another run, a number is outside its range or its interval,
            or is not what the records give.
    """
    check_parts(run, path)
    rows = [row for row in run.rows if not row.at and row.value is not None]
    records = read_records(path, (*RECORDS, "nll"))
    for row in rows:
        fault = _beyond_range(row) or _recount(row, records.get(row.subject, {}))
        if run.files is not None:  # before, an estimate could be outside its interval
            fault = fault or _beside_interval(row)
        if fault:
            where = f"{files_of(path)[0]}: {row.study}.{row.metric} of {row.subject}"
            raise ResultError(f"{where} is {row.value:.6g}, {fault}; measure again")


def read_records(path: Path | str, names: tuple[str, ...]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return ids and records of each subject, as far as they are stored.

    Raises:
        ResultError: the file is damaged.
    """
    file = parts_of(path)["per_image"]
    try:
        arrays = read_arrays(file, ("ids", "subjects", *names))
    except ResultError as problem:
        raise ResultError(f"{files_of(path)[0]}: {problem}") from problem
    if "ids" not in arrays or "subjects" not in arrays:
        return {}
    ids, subjects = arrays.pop("ids"), arrays.pop("subjects").tolist()
    if any(array.shape != (len(subjects), len(ids)) for array in arrays.values()):
        raise ResultError(f"{file}: damaged, its records do not fit its ids")
    if len(np.unique(ids)) != len(ids):
        raise ResultError(f"{file}: damaged, an id is there twice")
    return {
        subject: {"ids": ids, **{name: array[number] for name, array in arrays.items()}}
        for number, subject in enumerate(subjects)
    }


def _beyond_range(row: Row) -> str:
    """Return why a number cannot be right, whatever was measured."""
    unit = unit_of(row.unit)
    if unit.holds(row.value or 0.0):
        return ""
    return f"which no {row.unit} can be ({unit.lowest:g} to {unit.highest:g})"


def _beside_interval(row: Row) -> str:
    """Return whether a number is outside its own interval, in words."""
    value = row.value or 0.0
    low = -math.inf if row.low is None else row.low
    high = math.inf if row.high is None else row.high
    slack = ROUNDING * abs(value)
    return "" if low - slack <= value <= high + slack else "outside its own interval"


def _recount(row: Row, records: Records) -> str:
    """Return what the records give, if that is another number; nothing where they are not there."""
    key = row.study, row.metric
    name = "rank" if key in GUESSES else "nll"
    if key not in {*GUESSES, LOSS} or not records.keys() >= {"seen", name}:
        return ""
    seen = records["seen"] > 0
    if np.count_nonzero(seen) != row.images:
        return f"of {row.images:,} images where the records have {np.count_nonzero(seen):,}"
    each = records[name][seen] < GUESSES[key] if key in GUESSES else records[name][seen]
    counted = float(each.mean()) if seen.any() else math.nan
    fits = math.isclose(counted, row.value or 0.0, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return "" if fits else f"and its records give {counted:.6g}"
