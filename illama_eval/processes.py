"""Several processes under torchrun: who this one is, and adding what all have measured."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from illama_eval.loop import Shard


def join() -> Shard:
    """Return this process's shard; under torchrun, join the others (nccl on GPUs, else gloo)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Shard()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Shard(rank=dist.get_rank(), world=dist.get_world_size())


def leave() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def add_over_processes(total: dict[str, Tensor], shard: Shard) -> dict[str, Tensor]:
    """Return the sum of all processes' totals; a process that lacks a key counts as zero."""
    if shard.world == 1:
        return total
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in total.items()}
    everyone: list[Any] = gather(shapes, shard)
    known = {key: shape for shapes in everyone for key, shape in shapes.items()}
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    added = {}
    for key, (shape, dtype) in sorted(known.items()):
        value = total.get(key, torch.zeros(shape, dtype=dtype)).to(device)
        dist.all_reduce(value)
        added[key] = value
    return added


def gather(value: object, shard: Shard) -> list[Any]:
    """Return every process's value, in rank order."""
    if shard.world == 1:
        return [value]
    values: list[Any] = [None] * shard.world
    dist.all_gather_object(values, value)
    return values
