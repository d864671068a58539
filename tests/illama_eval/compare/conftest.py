"""Two stored runs over the same images, and functions that change what is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from illama_eval.digests import bind
from illama_eval.results import Run

Rewrite = Callable[..., None]


@pytest.fixture
def pair(write_run: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """Return two runs, the second with a lower accuracy."""
    return write_run(tmp_path / "a"), write_run(tmp_path / "b", accuracy=0.7, seed=1)


@pytest.fixture(scope="session")
def rewrite() -> Rewrite:
    """Return a function that changes the plain form of a stored run."""

    def change_run(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
        file = path / "run.json"
        data = json.loads(file.read_text(encoding="utf-8"))
        change(data)
        file.write_text(json.dumps(data), encoding="utf-8")

    return change_run


@pytest.fixture(scope="session")
def rebind(rewrite: Rewrite) -> Callable[[Path], None]:
    """Return a function that names the present files in run.json, as if written with it."""

    def name_files(path: Path) -> None:
        files = bind(Run(header={}, rows=()), path).files
        rewrite(path, lambda data: data.update(files=files))

    return name_files


@pytest.fixture(scope="session")
def rewrite_arrays(rebind: Callable[[Path], None]) -> Rewrite:
    """Return a function that changes the arrays of one file of a stored run."""

    def change_arrays(path: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        with np.load(path / name) as archive:
            arrays = dict(archive)
        change(arrays)
        np.savez(path / name, **arrays)
        rebind(path)

    return change_arrays


@pytest.fixture
def several_subjects(
    write_run: Callable[..., Path], rewrite: Rewrite
) -> Callable[[Path, Sequence[str]], Path]:
    """Return a function that writes a run of several subjects beside a path."""

    def write(path: Path, names: Sequence[str]) -> Path:
        runs = [
            write_run(path.parent / f"{path.name}-{name}", subject=name, seed=number)
            for number, name in enumerate(names)
        ]
        loaded = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in runs]

        def join(data: dict[str, Any]) -> None:
            data["rows"] = [row for each in loaded for row in each["rows"]]
            data["header"]["subjects"] = [{"name": name} for name in names]
            data["header"]["identity"]["subjects"] = {
                str(number): each["header"]["identity"]["subjects"]["0"]
                for number, each in enumerate(loaded)
            }

        rewrite(runs[0], join)
        return runs[0]

    return write
