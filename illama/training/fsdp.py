"""Fully sharded data parallelism: weights, gradients and moments split over all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from illama.distributed import World
from illama.model import Model


def shard(model: Model, world: World) -> None:
    """Shard the model's weights, in place; each block is gathered only while it computes."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def exchange_gradients(model: Model, *, on: bool) -> None:
    """Set whether the next backward pass sums the gradients of all processes."""
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(on)


def gather(value: Any) -> Any:
    """Return nested values with every tensor whole; all processes call it together."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: gather(each) for key, each in value.items()}
    return [gather(each) for each in value] if isinstance(value, list) else value


@torch.no_grad()
def gather_model(model: Model, device: torch.device) -> Model:
    """Return a plain model with the weights of a sharded one; all processes call it together."""
    with torch.random.fork_rng(devices=[]):
        plain = Model(model.config, path=model.path).to(device)
    for own, sharded in zip(plain.parameters(), model.parameters(), strict=True):
        own.copy_(gather(sharded.detach()))
    return plain


@torch.no_grad()
def fill(model: Model, plain: Model) -> None:
    """Copy the weights of a plain model into a sharded one."""
    for sharded, whole in zip(model.parameters(), plain.parameters(), strict=True):
        sharded.copy_(shard_like(whole, sharded))


def shard_like(whole: Tensor, sharded: Tensor) -> Tensor:
    """Return a tensor sharded like another; scalars are returned as they are."""
    if not isinstance(sharded, DTensor) or not whole.ndim:
        return whole
    return distribute_tensor(whole.to(sharded.device), sharded.device_mesh, sharded.placements)
