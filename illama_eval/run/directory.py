"""The run directory on disk: its lock, its identity, partials, and the finished files."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from illama.files import replacing
from illama_eval.digests import bind, check_parts
from illama_eval.results import ResultError, Row, Run, replicate_table

LOCK, OWNER = ".lock", ".owner"
OWNED = (
    "run.json",
    "timing.json",
    "replicates.npz",
    "per_image.npz",
    "samples.npz",
    "segments.npz",
    "model.safetensors",
    "mixed.json",
)
FOLDERS = ("tables", "figures")
START_FRESH = "choose another --out, or start fresh with --overwrite"
_SHA = 8
"""Digits of a fingerprint that a message shows."""
_LONGEST = 20
"""Characters of a differing value that a message shows, at most."""


@dataclass(frozen=True, kw_only=True)
class Partial:
    """An interrupted run: what it has measured, and where it continues."""

    identity: Mapping[str, Any]
    next_batch: int
    batch_size: int
    chunk: int
    seconds: float
    unreadable: tuple[tuple[int, str], ...]
    totals: dict[str, Tensor]
    """On any device; written and read as tensors of the CPU."""
    images: str = ""
    """The source in words, for messages."""


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Hold the directory for this process, and make it where it is missing.

    Raises:
        ResultError: another process holds it, or it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise ResultError(
            f"{directory}: in use by {_owner(directory)}; wait for it, or choose another --out"
        ) from None
    except OSError as problem:
        raise ResultError(f"{directory}: cannot be written ({problem.strerror})") from problem
    try:
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        (directory / OWNER).write_text(owner, encoding="utf-8")
        yield
    finally:
        (directory / OWNER).unlink(missing_ok=True)
        lock.release()
        (directory / LOCK).unlink(missing_ok=True)


def _owner(directory: Path) -> str:
    try:
        return (directory / OWNER).read_text(encoding="utf-8")
    except OSError:
        return "another process"


def finished_run(directory: Path, identity: Mapping[str, Any], images: str = "") -> Run | None:
    """Return the finished run in the directory; None if there is none.

    `images` describes those that are asked for, for the message.

    Raises:
        ResultError: its identity is another; the first differing field is named.
    """
    if not (directory / "run.json").exists():
        return None
    run = Run.load(directory)
    check_parts(run, directory)
    source = run.header.get("source") or {}
    held = describe_images(source.get("name", "other images"), source.get("images", 0))
    _check_same(directory, run.header["identity"], identity, images=(held, images))
    return run


def describe_images(name: str, count: int) -> str:
    """Return a source in words: `photos, 30 images`."""
    return f"{name}, {count:,} images"


def claim(
    path: Path,
    identity: Mapping[str, Any],
    notes: Mapping[str, Any] | None = None,
    advice: str = START_FRESH,
) -> None:
    """Write the identity of a folder of trainings into `path`, or check that it is the stored one.

    `notes` are written beside it and not compared.

    Raises:
        ResultError: the stored identity is another; the first differing field is named.
        CheckpointError: the file cannot be written.
    """
    if path.is_file():
        stored = json.loads(path.read_text("utf-8"))
        kept = {name: stored[name] for name in identity if name in stored}
        _check_same(path.parent, kept, identity, advice)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps({**identity, **(notes or {})}, indent=1).encode())


def clear(directory: Path) -> None:
    """Remove the files of an earlier run; other files stay."""
    for name in OWNED:
        (directory / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(directory / name, ignore_errors=True)
    clear_partials(directory)


def clear_partials(directory: Path) -> None:
    """Remove the partial files of all processes."""
    for path in directory.glob("partial-*.pt"):
        path.unlink(missing_ok=True)


def partial_path(directory: Path, rank: int, world: int) -> Path:
    """Return the file of a process's partial."""
    return directory / f"partial-{rank + 1}of{world}.pt"


def save_partial(path: Path, partial: Partial) -> None:
    """Write a partial, whole or not at all.

    Raises:
        CheckpointError: the disk is full; the partial before it is intact.
    """
    plain = {
        **{key: value for key, value in vars(partial).items() if key != "identity"},
        "identity": json.dumps(partial.identity),
        "unreadable": [list(item) for item in partial.unreadable],
        "totals": {key: value.cpu() for key, value in partial.totals.items()},
    }
    with replacing(path) as file:
        torch.save(plain, file)


def load_partial(path: Path, identity: Mapping[str, Any], images: str = "") -> Partial | None:
    """Return this process's partial, if there is one; its totals are on the CPU.

    `images` describes those that are asked for, for the message.

    Raises:
        ResultError: it belongs to another run or another number of processes, or is damaged.
    """
    others = [each for each in path.parent.glob("partial-*.pt") if _world(each) != _world(path)]
    if others:
        raise ResultError(
            f"{path.parent}: holds a half-done run of {_world(others[0])} processes, this one has "
            f"{_world(path)}; use the same number, or start fresh with --overwrite"
        )
    if not path.exists():
        return None
    try:
        plain = torch.load(path, weights_only=True, map_location="cpu")
        partial = Partial(**{**plain, "identity": json.loads(plain["identity"])})
    except Exception as problem:
        raise ResultError(f"{path}: damaged; start again with --overwrite") from problem
    _check_same(path.parent, partial.identity, identity, images=(partial.images, images))
    return partial


def _world(path: Path) -> str:
    return path.stem.partition("of")[2]


def _check_same(
    directory: Path,
    stored: Mapping[str, Any],
    wanted: Mapping[str, Any],
    advice: str = START_FRESH,
    images: tuple[str, str] = ("", ""),
) -> None:
    """Raise, naming the two sets of images, or the first field in which two identities differ."""
    differences = {field: values for field, *values in _differences(stored, wanted)}
    fingerprints = differences.get("source.fingerprint")
    if fingerprints and all(images):
        held, asked = (
            each if images[0] != images[1] else f"{each} ({str(fingerprint)[:_SHA]})"
            for each, fingerprint in zip(images, fingerprints, strict=True)
        )
        raise ResultError(f"{directory}: holds {held}; you ask for {asked}; {advice}")
    for field, values in differences.items():
        both = ", not ".join(map(repr, values))
        shown = f" ({both})" if max(len(repr(each)) for each in values) <= _LONGEST else ""
        raise ResultError(f"{directory}: holds a run with another {field}{shown}; {advice}")


def _differences(stored: Any, wanted: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted name of each leaf that differs, with both values."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        for key in [*stored, *(key for key in wanted if key not in stored)]:
            yield from _differences(
                stored.get(key), wanted.get(key), f"{name}.{key}" if name else str(key)
            )
    elif stored != wanted:
        yield name, stored, wanted


def has_timing(directory: Path, study: str) -> bool:
    """Return whether timing.json has rows of a study."""
    path = directory / "timing.json"
    return path.is_file() and any(
        row.study == study for row in Run.from_json(path.read_text("utf-8")).rows
    )


def add_timing(directory: Path, rows: Iterable[Row]) -> None:
    """Add rows to the timing.json of a finished run.

    Raises:
        CheckpointError: the disk is full.
    """
    path = directory / "timing.json"
    timing = Run.from_json(path.read_text("utf-8"))
    grown = replace(timing, rows=(*timing.rows, *rows))
    with replacing(path) as file:
        file.write(grown.to_json().encode("utf-8"))


def write_run(directory: Path, run: Run, timing: Run, arrays: Mapping[str, dict[str, Any]]) -> Run:
    """Write a finished run; run.json comes last, so where it exists the run is complete.

    `arrays` maps file stems (`per_image`, `samples`) to the arrays of an .npz. Return the run with
    the digests of its files.

    Raises:
        CheckpointError: the disk is full.
    """
    for stem, content in {**arrays, "replicates": replicate_table(run.rows)}.items():
        with replacing(directory / f"{stem}.npz") as file:
            np.savez_compressed(file, allow_pickle=False, **content)
    run = bind(run, directory)
    for name, part in (("timing.json", timing), ("run.json", run)):
        with replacing(directory / name) as file:
            file.write(part.to_json().encode("utf-8"))
    clear_partials(directory)
    return run
