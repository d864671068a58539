"""Distributed processes: sums and gathers over all that `torchrun` started, and the device."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from illama.arithmetic import use_exact_products
from illama.exits import InputError, UsageError
from illama.files import first_line
from illama.interruption import default_handlers
from illama.launch import TORCHRUN, Launch, launched

JOINING = timedelta(minutes=5)
"""How long processes wait for each other to start and load what they are given."""
WAITING = timedelta(hours=12)
"""How long processes wait for each other later: the first may extract features for the others."""


@dataclass(frozen=True)
class World:
    """This process among all; with one process, every operation returns its input."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def positions(self, count: int) -> NDArray[np.int64]:
        """Return this process's share of `count` images: every `size`-th, from `rank` on."""
        return np.arange(self.rank, count, self.size, dtype=np.int64)

    def add(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size == 1:
            return values
        total = values.to(self.device)
        distributed.all_reduce(total)
        return total

    def add_sums(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return named sums added over all processes; a process that lacks a key counts as zero."""
        if self.size == 1:
            return dict(sums)
        shapes = {key: (tuple(value.shape), value.dtype) for key, value in sums.items()}
        known = {key: shape for shapes in self.collect(shapes) for key, shape in shapes.items()}
        return {
            key: self.add(sums.get(key, torch.zeros(shape, dtype=dtype)))
            for key, (shape, dtype) in sorted(known.items())
        }

    def collect(self, value: Any) -> list[Any]:
        """Return every process's value, in order of rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def raise_together(self, error: ValueError | None) -> None:
        """Raise in every process the first process's error, if any has one; all call it.

        A process that raised alone would leave the others waiting for it.

        Raises:
            ValueError: of the type of the error.
        """
        if self.size == 1:
            if error is not None:
                raise error
            return
        if self.any(error is not None):
            raise next(each for each in self.collect(error) if each is not None)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        count = torch.tensor(int(flag))
        distributed.all_reduce(count)
        return bool(count)

    def wait(self) -> None:
        """Block until all processes have called this."""
        self.any(flag=False)


_ENDED: list[object] = []
"""Groups that are destroyed, kept to the end of the process.

A group waits for its threads where it is freed. If the last to hold it is a parallel model, torch
waits with the interpreter's lock, which a thread that frees a tensor needs: both wait for ever.
"""


@contextlib.contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Yield this process among those that `torchrun` has started, on a device of its own.

    Tensors of GPUs are added by nccl, each process's on the GPU of its local rank, and those of
    CPUs by gloo. Calls can be nested; the outermost one destroys the process group.

    Raises:
        InputError: the other processes do not come.
    """
    use_exact_products(device)
    launch = launched()
    if launch.size == 1:
        yield World(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", launch.local_rank)
        torch.cuda.set_device(device)
    first = not distributed.is_initialized()
    if first:
        _meet(launch, device)
    try:
        yield World(launch.rank, launch.size, device)
    finally:
        if first:
            _ENDED.append(distributed.group.WORLD)
            distributed.destroy_process_group()


def _meet(launch: Launch, device: torch.device) -> None:
    """Wait for all processes, and make their group; a signal ends this process at once.

    Raises:
        InputError: not all come in time.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    here = f"illama/{launch.rank}"
    try:
        with default_handlers():
            store, _, _ = next(rendezvous("env://", timeout=JOINING))
            store.set(here, "")
            store.wait([f"illama/{rank}" for rank in range(launch.size)], JOINING)
            distributed.init_process_group(
                backend, store=store, rank=launch.rank, world_size=launch.size, timeout=WAITING
            )
    except (RuntimeError, ValueError) as problem:
        raise InputError(
            f"no {launch.size} processes at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']} ({first_line(problem)}); start them with torchrun, or "
            f"unset {', '.join(TORCHRUN)}"
        ) from None


def is_main_process() -> bool:
    """Return whether this process is the one that prints and writes, joined or not."""
    return launched().rank == 0


def choose_device(name: str) -> torch.device:
    """Return the device of a name, with exact fp32 products where it is a GPU.

    `auto` is a GPU where there is one; under `torchrun`, `cuda` is the GPU of the local rank.

    Raises:
        UsageError: the name is not that of a device.
        InputError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cpu", "cuda"}:
        raise UsageError(f"--device {name}: not a device; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"--device {name}: torch sees {torch.cuda.device_count()} GPUs; give cpu or auto"
            )
        use_exact_products(device)
        device = torch.device("cuda", device.index or launched().local_rank)
        torch.cuda.set_device(device)
    return device
