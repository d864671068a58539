"""A generator from a computation with a callback, which waits while each item is consumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")


class _StoppedError(BaseException):
    """Unwinds the computation when nobody consumes any more; no `except Exception` keeps it."""


def interleave(compute: Callable[[Callable[[Item], None]], object]) -> Iterator[Item]:
    """Yield what `compute(emit)` emits; it goes on only when the consumer asks for the next.

    It runs in a thread of its own, without gradients, and never at the same time as the consumer.
    What it raises is raised here; if the generator is closed early, it is unwound.
    """
    worker = _Worker(compute)
    worker.start()
    try:
        while worker.wait():
            yield worker.items.pop()
            worker.asked.release()
    finally:
        worker.stop()
    if worker.failure is not None:
        raise worker.failure


class _Worker(threading.Thread, Generic[Item]):
    """The thread of a computation; `items` holds what it has emitted and nobody has taken."""

    def __init__(self, compute: Callable[[Callable[[Item], None]], object]) -> None:
        super().__init__(daemon=True)
        self.compute = compute
        self.items: list[Item] = []
        self.failure: BaseException | None = None
        self.emitted, self.asked = threading.Semaphore(0), threading.Semaphore(0)
        self.stopped = False

    def run(self) -> None:
        """Compute to the end, or until it is stopped."""
        try:
            with torch.no_grad():
                self.compute(self.emit)
        except _StoppedError:
            pass
        except BaseException as failure:  # noqa: BLE001 - it is raised in the consumer's thread
            self.failure = failure
        self.emitted.release()

    def emit(self, item: Item) -> None:
        """Hand over an item and wait until the next one is asked for."""
        self.items.append(item)
        del item
        self.emitted.release()
        self.asked.acquire()
        if self.stopped:
            raise _StoppedError

    def wait(self) -> bool:
        """Wait for the next item; return whether there is one."""
        self.emitted.acquire()
        return bool(self.items)

    def stop(self) -> None:
        """Unwind the computation if it still waits."""
        self.stopped = True
        self.asked.release()
        self.join()
