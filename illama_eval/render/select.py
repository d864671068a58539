"""Rows and parameters of a run, selected by study, metric, subject and `at`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from illama_eval.render.format.numbers import show_images
from illama_eval.results import Row, Run, nested_get

Array = NDArray[np.float64]


def subjects_of(run: Run) -> list[str]:
    """Return the subjects in the order in which the run names them."""
    return list(dict.fromkeys(subject for subject, _, _ in run.by_metric))


def studies_measured(run: Run) -> list[str]:
    """Return the studies of a run in the order in which it names them."""
    return list(dict.fromkeys(study for _, study, _ in run.by_metric))


def studies_of(rows: Iterable[Row]) -> list[str]:
    """Return the studies in the order in which the rows name them."""
    return list(dict.fromkeys(row.study for row in rows))


def headline(run: Run, study: str, metric: str, subject: str) -> Row | None:
    """Return the metric's row for the whole source, or None."""
    rows = run.by_metric.get((subject, study, metric), ())
    return next((row for row in rows if not row.at), None)


def headline_value(run: Run, study: str, metric: str, subject: str) -> float | None:
    """Return the metric's value for the whole source, or None where there is none."""
    row = headline(run, study, metric, subject)
    return None if row is None else row.value


def rows_at(
    run: Run, study: str, metric: str, subject: str, keys: Iterable[str], **fixed: int | str
) -> list[Row]:
    """Return the metric's rows whose `at` has exactly these keys and the fixed ones."""
    wanted = {*keys, *fixed}
    return [
        row
        for row in run.by_metric.get((subject, study, metric), ())
        if set(row.at) == wanted and all(row.at[key] == value for key, value in fixed.items())
    ]


def head_grid(run: Run, study: str, metric: str, subject: str, **fixed: int | str) -> Array:
    """Return a layer-by-head metric as [layer, head], NaN where undefined; [0, 0] where absent."""
    rows = rows_at(run, study, metric, subject, ("layer", "head"), **fixed)
    shape = tuple(max((int(row.at[key]) for row in rows), default=0) for key in ("layer", "head"))
    grid = np.full(shape, np.nan)
    for row in rows:
        grid[int(row.at["layer"]) - 1, int(row.at["head"]) - 1] = _number(row)
    return grid


def layer_values(run: Run, study: str, metric: str, subject: str) -> Array:
    """Return a by-layer metric as [layer]; a layer-by-head metric as the mean over heads.

    NaN where undefined; [0] where absent.
    """
    rows = rows_at(run, study, metric, subject, ("layer",))
    if not rows:
        grid = head_grid(run, study, metric, subject)
        return np.array(
            [
                layer[np.isfinite(layer)].mean() if np.isfinite(layer).any() else np.nan
                for layer in grid
            ]
        )
    values = np.full(max(int(row.at["layer"]) for row in rows), np.nan)
    for row in rows:
        values[int(row.at["layer"]) - 1] = _number(row)
    return values


def range_of_heads(grid: Array) -> tuple[Array, Array]:
    """Return the lowest and the highest head of [layer, head], NaN where none is defined."""
    known = np.isfinite(grid)
    low, high = np.where(known, grid, np.inf).min(1), np.where(known, grid, -np.inf).max(1)
    return np.where(known.any(1), low, np.nan), np.where(known.any(1), high, np.nan)


def parameter(run: Run, study: str, name: str, default: float) -> float:
    """Return a study's parameter from the header, or the default where it is not written."""
    found = nested_get(run.header, "identity", "studies", study, name)
    return float(found) if isinstance(found, int | float) else default


def direction(run: Run, row: Row) -> str | None:
    """Return `higher` or `lower`, as the header declares the row's metric, else None."""
    found = nested_get(run.header, "metrics", row.study, row.metric, "better")
    return found if found in {"higher", "lower"} else None


def groups_in_words(run: Run) -> str:
    """Return by which groups of images the intervals are, in a sentence; empty without groups."""
    found = nested_get(run.header, "source", "groups")
    if not isinstance(found, Mapping) or not found:
        return ""
    counts = " and ".join(f"{count} by {way}" for way, count in found.items())
    return f"Images of a group are not independent: intervals resample groups ({counts})."


def images_of(run: Run, study: str) -> str:
    """Return the number of images behind a study, in words."""
    rows = chain.from_iterable(rows for (_, of, _), rows in run.by_metric.items() if of == study)
    most = max(map(attrgetter("images"), rows), default=0)
    return show_images(most)


def series_of(run: Run) -> tuple[str, dict[str, str]]:
    """Return what is varied over the subjects, in words, and each one's value; else "" and {}."""
    name = nested_get(run.header, "variable", "name")
    values = nested_get(run.header, "variable", "values")
    if not isinstance(name, str) or not isinstance(values, Mapping):
        return "", {}
    return name.replace("_", " "), {subject: f"{value:g}" for subject, value in values.items()}


def class_names(run: Run) -> list[str]:
    """Return the names of the classes, as far as the header lists them."""
    found = nested_get(run.header, "source", "classes")
    return [str(name) for name in found] if isinstance(found, list) else []


def _number(row: Row) -> float:
    return np.nan if row.value is None else row.value
