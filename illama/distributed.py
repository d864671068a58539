"""Distributed processes: sums and gathers over all that `torchrun` started, and the device."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from illama.exits import InputError, UsageError


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

    def wait(self) -> None:
        """Block until all processes have called this."""
        if self.size > 1:
            distributed.barrier()


@contextlib.contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Yield this process among those that `torchrun` has started, on a device of its own.

    Processes communicate by nccl on GPUs, each on the GPU of its local rank, and by gloo on CPUs.
    Calls can be nested; the outermost one destroys the process group.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    first = not distributed.is_initialized()
    if first:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(distributed.get_rank(), size, device)
    finally:
        if first:
            distributed.destroy_process_group()


def is_main_process() -> bool:
    """Return whether this process is the one that prints and writes, joined or not."""
    return os.environ.get("RANK", "0") == "0"


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
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        device = torch.device("cuda", device.index or int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device
