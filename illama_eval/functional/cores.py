"""Work spread over the cores of the CPU: part by part, or beside a GPU.

LAPACK gains nothing from a second core on one matrix of a few hundred rows, but two matrices at
once take half the time: numpy releases the interpreter's lock. With one core for each matrix the
result does not depend on how many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from illama.launch import own_cores

Part = TypeVar("Part")

WAITING = 512
"""Blocks that may wait for a core beside a GPU; with more, whoever adds one waits."""


def in_a_part(parts: int, most: int) -> int:
    """Return how many of equal parts a core takes at a time: `most`, or its share of few."""
    return max(1, min(most, -(-parts // torch.get_num_threads())))


def in_threads(work: Callable[[Part], object], parts: Sequence[Part]) -> None:
    """Do the work on every part: as many at a time as torch has threads, each with one core.

    In one of these threads it is done there: a pool whose threads all wait for it would hang.
    """
    threads = torch.get_num_threads()
    with one_core_each:
        if threads == 1 or len(parts) == 1 or getattr(_this_thread, "is_ours", False):
            for part in parts:
                work(part)
        else:
            list(_pool(threads).map(work, parts))


def beside(
    work: Callable[[Tensor], Tensor], maps: Tensor, block: int
) -> tuple[Future[Tensor], ...]:
    """Start work on maps of a GPU, on the CPU's cores, in blocks of so many; nothing waits.

    The maps are copied to the host behind what the GPU is doing. More than WAITING blocks are not
    kept: the GPU then waits for the cores.
    """
    host = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
    host.copy_(maps.detach(), non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types
    copied.record()

    def do(part: Tensor) -> Tensor:
        try:
            copied.synchronize()
            return work(part)
        finally:
            _waiting.release()

    futures = []
    for part in torch.split(host, block):
        _waiting.acquire()
        futures.append(_pool(own_cores()).submit(do, part))
    return tuple(futures)


_waiting = threading.BoundedSemaphore(WAITING)
_this_thread = threading.local()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return so many threads, which stay: to start one takes half a millisecond."""
    return ThreadPoolExecutor(threads, "", setattr, (_this_thread, "is_ours", True))


class _OneCoreEach:
    """A context in which numpy's products use one core; it may be entered again inside."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.limit: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.limit = _libraries().limit(limits=1, user_api="blas")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limit.restore_original_limits()


one_core_each = _OneCoreEach()
"""Shared by all, because the number of threads is the library's, not the caller's."""


@cache
def _libraries() -> ThreadpoolController:
    """Return what limits the threads of numpy's BLAS; to find the library takes milliseconds."""
    return ThreadpoolController()
