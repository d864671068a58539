"""A computation that emits as it goes, turned into a generator: it waits while each is consumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Item = TypeVar("Item")


class _StoppedError(BaseException):
    """Unwinds the computation when nobody consumes any more; no `except Exception` keeps it."""


def interleave(compute: Callable[[Callable[[Item], None]], object]) -> Iterator[Item]:
    """Yield what `compute(emit)` emits; it goes on only when the consumer asks for the next.

    It runs in a thread of its own, without gradients, and never at the same time as the consumer.
    What it raises is raised here; if the generator is closed early, it is unwound.
    """
    items: list[Item] = []
    failures: list[BaseException] = []
    emitted, asked = threading.Semaphore(0), threading.Semaphore(0)
    stopped = threading.Event()

    def emit(item: Item) -> None:
        items.append(item)
        del item
        emitted.release()
        asked.acquire()
        if stopped.is_set():
            raise _StoppedError

    def run() -> None:
        try:
            with torch.no_grad():
                compute(emit)
        except _StoppedError:
            pass
        except BaseException as failure:  # noqa: BLE001 - it is raised in the consumer's thread
            failures.append(failure)
        emitted.release()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        emitted.acquire()
        while items:
            yield items.pop()
            asked.release()
            emitted.acquire()
    finally:
        stopped.set()
        asked.release()
        thread.join()
    if failures:
        raise failures.pop()
