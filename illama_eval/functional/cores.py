"""Work spread over the cores of the CPU: part by part, or beside a GPU.

LAPACK and small tensors gain nothing from a second core on one matrix of a few hundred rows, but
two matrices at once take half the time: torch and numpy release the interpreter's lock. With one
core for each matrix the result does not depend on how many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
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


def in_threads(
    work: Callable[[Part], object], groups: Sequence[Iterable[Part]], device: torch.device
) -> None:
    """Do the work on every part; on a CPU every core takes one group of parts at a time.

    There are as many threads as torch uses, and torch and numpy use one core in each.
    """
    threads = torch.get_num_threads()

    def do(group: Iterable[Part]) -> None:
        with torch.no_grad():
            for part in group:
                work(part)

    with one_core_each:
        if device.type != "cpu" or threads == 1 or len(groups) == 1:
            for group in groups:
                do(group)
            return
        try:
            with ThreadPoolExecutor(threads, "", torch.set_num_threads, (1,)) as pool:
                list(pool.map(do, groups))
        finally:
            torch.set_num_threads(threads)


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
        futures.append(_pool().submit(do, part))
    return tuple(futures)


_waiting = threading.BoundedSemaphore(WAITING)


@cache
def _pool() -> ThreadPoolExecutor:
    """Return a thread for each core that this process may use."""
    return ThreadPoolExecutor(own_cores())


class _OneCoreEach:
    """A context in which BLAS uses one core; it may be entered again inside."""

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


def find_libraries() -> None:
    """Look for libraries with threads of their own again, after another one was loaded."""
    _libraries.cache_clear()


@cache
def _libraries() -> ThreadpoolController:
    """Return what limits the threads of BLAS; to find its libraries takes milliseconds."""
    return ThreadpoolController()
