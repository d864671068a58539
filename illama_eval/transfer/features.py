"""Frozen features of a source's images, extracted once and kept on disk.

A file of features is found by everything that decides them: the weights and how they are run, the
transform, the images and their order, and the kind of feature. It is used again only if its bytes
are those that were written; an interrupted extraction is continued.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from illama.files import replacing, sha256_of_file
from illama.interruption import deferring
from illama.observation import LayerSeen, OutputSeen, batch_of, present
from illama.sources.source import Source
from illama_eval.run.job import IDENTIFYING, Options
from illama_eval.run.loop import SubjectPiece, automatic_batch_size, observe_source
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import Subject, SubjectError

Kind: TypeAlias = Literal["class", "patches", "last4"]
"""`class`: the class token after the final norm. `patches`: the mean of the patches of the last
block after it. `last4`: the class tokens of the last four blocks after it, side by side."""

LAST = 4
FORMAT = 1
SAVE_EVERY = 30.0
"""Seconds between saves of the progress of an extraction."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of all images of a source."""

    values: NDArray[np.float32]
    """[image, channel]; NaN where the image could not be read."""
    unreadable: tuple[tuple[int, str], ...] = ()
    """Position and reason of each image that could not be read."""


def extract(
    subject: Subject, source: Source, kind: Kind, folder: Path, options: Options | None = None
) -> Features:
    """Return a subject's features of all images, from the folder if they are there.

    Raises:
        SubjectError: the subject does not show what the kind needs.
        SystemExit: the process was interrupted; what is extracted is kept.
    """
    check_kind(subject, kind)
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(subject, source, kind)
    store = _Store(folder, key, len(source))
    with FileLock(store.lock):
        found = store.finished()
        if found is None:
            _fill(store, subject, source, kind, options or Options())
            found = store.finished()
        assert found is not None
        return found


def check_kind(subject: Subject, kind: Kind) -> None:
    """Refuse a kind of feature that the subject does not show.

    Raises:
        SubjectError: the subject does not show it.
    """
    if kind != "class" and not isinstance(subject, ModelSubject):
        raise SubjectError(
            f"{subject.name}: the features {kind} are of checkpoints of illama alone; use class"
        )
    if "features" not in subject.shows:
        raise SubjectError(f"{subject.name}: shows no features; give a checkpoint")
    if kind == "last4" and isinstance(subject, ModelSubject):
        depth = subject.model.config.depth
        if depth < LAST:
            raise SubjectError(f"{subject.name}: has {depth} blocks; last4 needs {LAST}")


def read_kind(
    subject: Subject, kind: Kind, pieces: Iterator[SubjectPiece]
) -> tuple[Tensor, Tensor]:
    """Return positions [image] and features [image, channel] of one batch."""
    layers: list[Tensor] = []
    for _, piece in pieces:
        if isinstance(piece, OutputSeen):
            positions = batch_of(piece).positions
            if kind == "class":
                return positions, present(piece.features, "features")
            assert isinstance(subject, ModelSubject)
            parts = [subject.model.norm(layer) for layer in layers]
            return positions, torch.cat(parts, dim=-1) if kind == "last4" else parts[-1].mean(1)
        if isinstance(piece, LayerSeen):
            kept = layers[1 - LAST :] if kind == "last4" else []
            layers = [*kept, _tokens(piece, kind)]
    raise AssertionError("a subject ends with its output")


def _tokens(piece: LayerSeen, kind: Kind) -> Tensor:
    """Return the class token [image, channel], or all patches [image, patch, channel]."""
    tokens = present(piece.tokens, "tokens")
    return tokens[:, piece.class_index if kind == "last4" else piece.image_tokens]


def _fill(store: _Store, subject: Subject, source: Source, kind: Kind, options: Options) -> None:
    """Extract what is missing, saving the progress from time to time."""
    wanted = frozenset({"features"} if kind == "class" else {"features", "tokens"})
    progress = store.progress()
    size = progress.get("batch_size") or options.batch_size
    size = size or automatic_batch_size([subject], wanted)
    first, unreadable = progress.get("next_batch", 0), progress.get("unreadable", [])
    if options.on_start:
        options.on_start(len(source), min(len(source), first * size))
    saved = time.monotonic()
    with deferring() as interruption:
        for step in observe_source(
            [subject],
            source,
            wanted,
            partial(read_kind, subject, kind),
            batch_size=size,
            workers=options.workers,
            first=first,
            cache=options.cache,
        ):
            for positions, values in step.results:
                store.put(positions, values)
            unreadable += [list(each) for each in step.unreadable]
            if options.on_batch:
                options.on_batch(len(step.positions) + len(step.unreadable))
            record = {"next_batch": step.next_batch, "batch_size": size, "unreadable": unreadable}
            if interruption.signal or time.monotonic() - saved > SAVE_EVERY:
                store.save(record)
                saved = time.monotonic()
            if interruption.signal:
                raise SystemExit(interruption.code)
    store.finish({"batch_size": size, "unreadable": unreadable})


def _key(subject: Subject, source: Source, kind: Kind) -> dict[str, Any]:
    """Return all that decides the features, as JSON reads it back."""
    described = subject.describe()
    order = hashlib.sha256("\n".join(source.ids).encode("utf-8", "surrogatepass"))
    key = {
        "format": FORMAT,
        "kind": kind,
        "subject": {name: described[name] for name in IDENTIFYING if name in described},
        "source": source.fingerprint,
        "order": order.hexdigest(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(key))
    return plain


@dataclass
class _Store:
    """One file of features, and the record beside it."""

    folder: Path
    key: dict[str, Any]
    images: int
    array: NDArray[np.float32] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        text = json.dumps(self.key, sort_keys=True)
        stem = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path, self.half = self.folder / f"{stem}.npy", self.folder / f"{stem}.half.npy"
        self.record, self.lock = self.folder / f"{stem}.json", self.folder / f".{stem}.lock"

    def finished(self) -> Features | None:
        """Return the features if they are complete and undamaged."""
        record = self._read_record()
        if "sha256" not in record or not self.path.is_file():
            return None
        if sha256_of_file(self.path) != record["sha256"]:
            return None
        values = np.load(self.path, mmap_mode="r", allow_pickle=False)
        unreadable = tuple((int(position), str(why)) for position, why in record["unreadable"])
        return Features(values=values, unreadable=unreadable)

    def progress(self) -> dict[str, Any]:
        """Return the record of an extraction to continue; empty if there is none."""
        record = self._read_record()
        if "next_batch" not in record or not self.half.is_file():
            return {}
        try:
            self.array = np.lib.format.open_memmap(self.half, mode="r+")
        except (OSError, ValueError):
            return {}
        if len(self.array) != self.images:
            self.array = None
            return {}
        return record

    def put(self, positions: Tensor, values: Tensor) -> None:
        """Write one batch."""
        exact = values.float().cpu().numpy()
        if self.array is None:
            self.array = self._allocate(exact.shape[1])
        self.array[positions.cpu().numpy()] = exact

    def _allocate(self, channels: int) -> NDArray[np.float32]:
        """Return the mapped file of all features, written as NaN first.

        A write that does not fit is an error; in the map of a sparse file it would be a SIGBUS.

        Raises:
            SubjectError: the disk has no room for it; nothing else was changed.
        """
        row = np.full(channels, np.nan, np.float32)
        about = {"descr": row.dtype.str, "fortran_order": False, "shape": (self.images, channels)}
        try:
            with self.half.open("wb") as stream:
                np.lib.format.write_array_header_1_0(stream, about)
                for _ in range(self.images):
                    stream.write(row.data)
            mapped: NDArray[np.float32] = np.lib.format.open_memmap(self.half, mode="r+")
        except OSError as problem:
            self.half.unlink(missing_ok=True)
            raise SubjectError(
                f"{self.folder}: no room for {self.images:,} features of {row.nbytes:,} bytes "
                f"({problem.strerror}); free some, or name another folder with --cache"
            ) from problem
        return mapped

    def save(self, progress: dict[str, Any]) -> None:
        """Write how far the extraction has come, after the features themselves."""
        if self.array is not None:
            self.array.flush()  # type: ignore[attr-defined]  # a memmap
            self._write_record(progress)

    def finish(self, record: dict[str, Any]) -> None:
        """Give the complete file its name.

        Raises:
            SubjectError: no image could be read.
        """
        if self.array is None:
            raise SubjectError(
                f"none of the images can be read; the first: {record['unreadable'][0][1]}"
            )
        self.array.flush()  # type: ignore[attr-defined]  # a memmap
        self.array = None
        self.half.replace(self.path)
        self._write_record({**record, "sha256": sha256_of_file(self.path)})

    def _read_record(self) -> dict[str, Any]:
        try:
            record = json.loads(self.record.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        same = isinstance(record, dict) and record.get("key") == self.key
        return record if same else {}

    def _write_record(self, content: dict[str, Any]) -> None:
        text = json.dumps({"key": self.key, "images": self.images, **content}, indent=1)
        with replacing(self.record) as stream:
            stream.write(text.encode())
