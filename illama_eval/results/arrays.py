"""The arrays beside run.json: the replicates of rows, and how any .npz is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from msgspec.structs import replace
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from illama_eval.results.rows import ResultError, Row, name_of


def files_of(path: Path | str) -> tuple[Path, Path]:
    """Return where a run's JSON and its replicates are: in a directory, or a file and its .npz."""
    path = Path(path)
    if path.suffix == ".json" and path.name != "run.json" and not path.is_dir():
        return path, path.with_suffix(".npz")
    path = path.parent if path.name == "run.json" else path
    return path / "run.json", path / "replicates.npz"


def read_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz, those of `names` that it holds; no file is an empty one.

    Raises:
        ResultError: the file is damaged, or holds objects.
    """
    if not path.exists():
        return {}
    try:
        return load_arrays(path, names)
    except Exception as problem:
        raise ResultError(f"{path.name} beside it is damaged ({problem})") from problem


def load_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz, those of `names` that it holds.

    Raises:
        Exception: almost any, where the file is damaged, or holds objects.
    """
    with path.open("rb") as stream, NpzFile(stream, allow_pickle=False) as archive:
        return {name: archive[name] for name in names or archive if name in archive}


def read_replicates(path: Path, *, headline: bool) -> dict[str, NDArray[np.float64]]:
    """Return the 200 replicates of each row that has them, by the row's name.

    Those of the headline come first in the file; `headline` leaves the rest unread.

    Raises:
        ResultError: the file is damaged.
    """
    if not path.exists():
        return {}
    names: list[str] = read_arrays(path, ("names",)).get("names", np.empty(0)).tolist()
    if headline:
        places = [number for number, name in enumerate(names) if name.endswith("[]")]
        names = names[: max(places, default=-1) + 1]
    try:
        return dict(zip(names, _first_rows(path, len(names)), strict=True))
    except Exception as problem:
        raise ResultError(f"{path.name} beside it is damaged ({problem})") from problem


def _first_rows(path: Path, count: int) -> NDArray[np.float64]:
    """Return the first rows of `replicates`, inflating no more than them."""
    with ZipFile(path) as archive, archive.open("replicates.npy") as stream:
        np.lib.format.read_magic(stream)
        (_, columns), by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        if by_columns or dtype != np.float64:
            raise ValueError("expected float64 rows")
        values = np.frombuffer(stream.read(count * columns * 8)).reshape(count, columns)
    if not np.isfinite(values).all():
        raise ValueError("a replicate is not finite")
    return values


def with_replicates(
    rows: Iterable[Row], table: Mapping[str, NDArray[np.float64]]
) -> tuple[Row, ...]:
    """Return the rows with the replicates that the table has for them, by their names."""
    return tuple(replace(row, replicates=table.get(name_of(row))) for row in rows)


def replicate_table(rows: tuple[Row, ...]) -> dict[str, NDArray[Any]]:
    """Return the arrays of replicates.npz: `names`, and `replicates` float64 [row, 200].

    Rows for the whole source come first, so that a comparison need not read the rest.
    """
    kept = sorted((row for row in rows if row.replicates is not None), key=lambda row: bool(row.at))
    values = [row.replicates for row in kept if row.replicates is not None]
    return {
        "names": np.array([name_of(row) for row in kept], dtype=np.str_),
        "replicates": np.array(values, dtype=np.float64).reshape(len(kept), -1 if kept else 0),
    }
