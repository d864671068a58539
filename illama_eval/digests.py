"""Digests that bind the files of a run: run.json names those that were written with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from illama.files import sha256_of_file
from illama_eval.results import ResultError, Run, files_of


def parts_of(path: Path | str) -> Mapping[str, Path]:
    """Return where a run's replicates and its per-image records are; a baseline has one file."""
    stored = files_of(path)[1]
    alone = stored.name != "replicates.npz"
    records = stored if alone else stored.with_name("per_image.npz")
    return {"replicates": stored, "per_image": records}


def bind(run: Run, path: Path | str) -> Run:
    """Return the run with the digests of its files, which are there already."""
    there = {name: part for name, part in parts_of(path).items() if part.exists()}
    return replace(run, files={name: sha256_of_file(part) for name, part in there.items()})


def check_parts(run: Run, path: Path | str) -> None:
    """Check that the files of a run are those that were written with its run.json.

    A file that is missing is no fault here, and runs of schema 1 name none.

    Raises:
        ResultError: a file belongs to another run, or was changed.
    """
    if run.files is None:
        return
    for name, part in parts_of(path).items():
        if part.exists() and run.files.get(name) != sha256_of_file(part):
            file = files_of(path)[0]
            raise ResultError(
                f"{file}: {part.name} beside it is not the one that was written with it (damaged, "
                "or of another run); copy a run with all of its files, or measure again"
            )
