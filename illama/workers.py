"""Batches in order, read ahead by worker processes if there are any; an ended worker is an error.

A worker's death is noticed while a batch is waited for, and nowhere else. torch's handler of
SIGCHLD raises wherever the process is when a worker dies: in a step, in the
saving of a checkpoint, in the report of an error. Here the signal waits for the next batch.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader

from illama.files import first_line
from illama.sources.source import SourceError

Index_contra = TypeVar("Index_contra", contravariant=True)
Loaded_co = TypeVar("Loaded_co", covariant=True)

WORKER_TIMEOUT = 120
"""Seconds without a batch after which a worker counts as hung."""


class LoaderError(SourceError):
    """A loader worker ended or hung; one line: what, where, what to do."""


class BatchReader(Protocol[Index_contra, Loaded_co]):
    """What loads a batch by its index; pickled where worker processes are not forked."""

    def __getitem__(self, index: Index_contra, /) -> Loaded_co:
        """Return the batch."""
        ...


def load_in_order(
    reader: BatchReader[Index_contra, Loaded_co],
    indices: Iterable[Index_contra],
    workers: int,
    *,
    pin: bool,
) -> Iterator[Loaded_co]:
    """Yield the batches of the indices in order, read ahead by worker processes if there are any.

    With `pin`, a batch is moved to pinned memory by its own `pin_memory`.

    Raises:
        LoaderError: a worker ended or hung.
    """
    dataset: Any = reader
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        pin_memory=pin,
        timeout=WORKER_TIMEOUT if workers else 0,
        generator=torch.Generator(),  # else a seed for workers comes off the global one
    )
    batches = iter(loader)
    if workers:
        WATCH.install()
    while True:
        try:
            with WATCH.waiting():
                batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            if not workers:
                raise
            traceback.clear_frames(error.__traceback__)  # workers that a frame holds end late: 10 s
            del batches
            if not says_a_worker_ended(error):
                raise
            raise LoaderError(
                f"a loader worker ended or hung ({first_line(error).rstrip(' .')}); if memory is "
                "short, in /dev/shm too, use fewer --workers, or none"
            ) from None
        yield batch


class WorkerWatch:
    """The handler of SIGCHLD of this process, in front of torch's."""

    def __init__(self) -> None:
        self._check: Callable[[int, FrameType | None], Any] | None = None
        self._waiting = self._pending = False

    def install(self) -> None:
        """Take the place of torch's handler, which it sets with the first workers."""
        if threading.current_thread() is not threading.main_thread():
            return
        current = signal.getsignal(signal.SIGCHLD)
        if callable(current) and current != self._handle:
            self._check = current
            signal.signal(signal.SIGCHLD, self._handle)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let a worker's death raise inside, also one that came before.

        Raises:
            RuntimeError: torch's, of a worker that did not end by itself.
        """
        self._waiting = True
        try:
            if self._pending:
                self._handle(signal.SIGCHLD, None)
            yield
        finally:
            self._waiting = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._pending = not self._waiting
        if self._waiting and self._check is not None:
            self._check(number, frame)


WATCH = WorkerWatch()
"""Of this process, which has one handler of a signal."""


def says_a_worker_ended(error: Exception) -> bool:
    """Return whether an error of a loader is that of a worker that is gone.

    A worker that is killed while it hands over a batch breaks the connection instead.
    """
    if isinstance(error, RuntimeError):
        return "DataLoader" in str(error) or "ancdata" in str(error)
    if not isinstance(error, OSError | EOFError):
        return False
    return not str(error).startswith("Caught")  # what a worker raised itself has its own words
