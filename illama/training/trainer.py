"""The trainer: a model, its optimizer and schedules, and one optimizer step."""

from __future__ import annotations

import contextlib
import copy
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from illama.arithmetic import DTYPES
from illama.distributed import World
from illama.model import Model
from illama.training import fsdp, schedules
from illama.training.classification import Classification
from illama.training.loader import (
    Batch,
    count_passes,
    dropout_seed,
    mixing_generator,
    path_generator,
)
from illama.training.mixup import draw_mixing
from illama.training.recipe import Recipe, RecipeError
from illama.training.segmentation import Segmentation
from illama.training.task import Record, Task, TrainingError

BETAS = (0.9, 0.999)
"""AdamW's betas in every recipe of the paper (Table 12)."""


class LossError(TrainingError):
    """A loss that is not finite; the weights are as they were before the step."""

    def __init__(self, message: str, positions: Sequence[int]) -> None:
        super().__init__(message)
        self.positions = tuple(positions)
        """Training images of the micro-batches with this loss."""


@dataclass(frozen=True)
class StepResult:
    """The result of one optimizer step."""

    record: Record
    """Its numbers for the log."""
    stopping: bool
    """Whether any process received a signal to stop."""


class Trainer:
    """Everything that a training updates, and how; steps count over all epochs.

    Raises:
        TrainingError: too few images for a batch, or a soft mask that does not fit the recipe.
        RecipeError: a batch with fewer micro-batches than processes.
        CheckpointError: the recipe starts from weights that are missing or do not fit.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: int,
        world: World | None = None,
        *,
        compiled: bool = False,
        sharded: bool = False,
    ) -> None:
        self.recipe = recipe
        self.world = world or World()
        self.device = self.world.device
        self.passes = count_passes(recipe, self.world.size)
        self.steps_per_epoch = images // recipe.batch_size
        if not self.steps_per_epoch:
            raise TrainingError(
                f"recipe {recipe.name}: {images} training images do not fill a batch of "
                f"{recipe.batch_size}; lower batch_size"
            )
        self.steps = recipe.epochs * self.steps_per_epoch
        self._check_soft_mask()
        if sharded:
            self._check_sharding()
        self.task = task_of(recipe)
        self.model = self.task.build(recipe).to(self.device)
        self.average = None if recipe.ema is None else copy.deepcopy(self.model).eval()
        self.sharded = sharded
        self.run = self._wrap(compiled=compiled)
        groups = parameter_groups(self.model, recipe.weight_decay, recipe.layer_decay)
        fused = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=BETAS, fused=fused)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.dtype == "fp16")

    @property
    def own_passes(self) -> int:
        """The number of this process's micro-batches in a step."""
        return len(range(self.world.rank, self.passes, self.world.size))

    def _check_soft_mask(self) -> None:
        """Raise if the last step has a soft mask, unless the recipe allows it."""
        last = self.soft_mask(self.steps - 1)
        if last and not self.recipe.keep_soft_mask:
            raise RecipeError(
                f"recipe {self.recipe.name}: the soft mask is {last:.3g} in the last step, so the"
                " model would not be causal; lower cutoff_soft, or set keep_soft_mask=true"
            )

    def _check_sharding(self) -> None:
        """Raise if this training cannot be sharded."""
        if self.world.size == 1:
            raise TrainingError("--shard needs several processes; start them with torchrun")
        if self.passes % self.world.size:
            raise RecipeError(
                f"recipe {self.recipe.name}: --shard needs as many micro-batches for each of the "
                f"{self.world.size} processes, and a batch has {self.passes}; set batch_size and "
                f"micro_batch so that a batch has a multiple of {self.world.size}"
            )
        if self.recipe.task == "segmentation":
            raise RecipeError(f"recipe {self.recipe.name}: --shard supports classification only")
        if self.recipe.ema is not None or self.recipe.dtype == "fp16":
            raise RecipeError(
                f"recipe {self.recipe.name}: --shard supports neither an average of the weights nor"
                " fp16; set ema=none and dtype=bf16 or fp32"
            )

    def _wrap(self, *, compiled: bool) -> Callable[..., Tensor]:
        """Return the forward pass, compiled or distributed; it shares the model's weights."""
        if self.recipe.recompute:
            self.model.recompute_blocks()
        if self.sharded:
            fsdp.shard(self.model, self.world)
        note = self.model.prepare_to_compile(DTYPES[self.recipe.dtype]) if compiled else ""
        if note and self.world.is_main:
            sys.stderr.write(f"note: {note}\n")
        run: Any = torch.compile(self.model) if compiled else self.model
        if self.world.size > 1 and not self.sharded:
            ids = [self.device] if self.device.type == "cuda" else None
            run = DistributedDataParallel(run, device_ids=ids)
        forward: Callable[..., Tensor] = run
        return forward

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        recipe, steps = self.recipe, self.steps
        warmup = recipe.warmup_steps
        if warmup is None:
            warmup = recipe.warmup_epochs * self.steps_per_epoch
        if recipe.lr_schedule == "polynomial":
            return schedules.polynomial(step, peak=recipe.lr, warmup_steps=warmup, steps=steps)
        return schedules.learning_rate(
            step, peak=recipe.lr, minimum=recipe.min_lr, warmup_steps=warmup, steps=steps
        )

    def weight_decay(self, step: int) -> float:
        """Return the weight decay of a step."""
        start, end = self.recipe.weight_decay, self.recipe.weight_decay_end
        return schedules.weight_decay(step, start=start, end=end, steps=self.steps)

    def soft_mask(self, step: int) -> float:
        """Return the soft mask of a step."""
        return schedules.soft_mask(
            step,
            start=self.recipe.soft_mask,
            schedule=self.recipe.mask_schedule,
            cutoff_steps=self.recipe.cutoff_soft * self.steps_per_epoch,
        )

    def drop_path(self, step: int) -> float:
        """Return the drop rate of the last block in a step."""
        return schedules.drop_path(
            step,
            rate=self.recipe.drop_path,
            mode=self.recipe.drop_mode,
            schedule=self.recipe.drop_schedule,
            cutoff_steps=self.recipe.drop_cutoff * self.steps_per_epoch,
        )

    def take_step(
        self,
        step: int,
        batches: Iterable[Batch],
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> StepResult:
        """Take an optimizer step on this process's micro-batches.

        `stop_requested` is called after them: whether this process is to stop after the step.

        Raises:
            LossError: the loss is not finite; the weights are left as they were.
        """
        self._set_rates(step)
        self.optimizer.zero_grad()
        seen, positions = [], []
        for number, batch in enumerate(batches, start=1):
            seen.append(self._learn(step, batch, synchronised=number == self.own_passes))
            positions.append(batch.positions)
        sums = torch.stack(seen)
        stop = sums.new_full((1,), stop_requested())
        total = self.world.add(torch.cat((sums.sum(0), stop)))
        loss, correct, images, stopped = total.tolist()
        if not math.isfinite(loss):
            wrong = (~sums[:, 0].isfinite()).tolist()
            unusual = [int(p) for part in compress(positions, wrong) for p in part]
            raise LossError(
                f"recipe {self.recipe.name}: loss {loss} in step {step}; lower lr",
                [position for part in self.world.collect(unusual) for position in part],
            )
        self._update()
        mixed = {} if self.recipe.mixes else {"train_class_acc": correct / images}
        record = {
            "train_lr": self.learning_rate(step),
            "train_weight_decay": self.weight_decay(step),
            "train_loss": loss / images,
            **mixed,
            "train_soft_mask_rate": self.soft_mask(step),
            "train_drop_path": self.drop_path(step),
        }
        return StepResult(record, stopped > 0)

    def whole(self) -> Model:
        """Return the unsharded model; all processes call it together."""
        return fsdp.gather_model(self.model, self.device) if self.sharded else self.model

    def moments(self) -> dict[str, Any]:
        """Return the optimizer's unsharded state, on the CPU; all processes call it together."""
        state: dict[str, Any] = fsdp.gather(self.optimizer.state_dict())
        moments = {
            index: {name: each.cpu() for name, each in own.items()}
            for index, own in state["state"].items()
        }
        return {**state, "state": moments}

    def resume_from(self, model: Model, moments: dict[str, Any]) -> None:
        """Load saved weights and moments."""
        fsdp.fill(self.model, model)
        for own, saved in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(saved)
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        for index, own in moments["state"].items():
            own.update(
                {name: fsdp.shard_like(each, parameters[index]) for name, each in own.items()}
            )
        self.optimizer.load_state_dict(moments)

    def _set_rates(self, step: int) -> None:
        """Set the optimizer's learning rate and weight decay for a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step) * group["scale"]
            group["weight_decay"] = self.weight_decay(step) if group["decays"] else 0.0

    def _learn(self, step: int, batch: Batch, *, synchronised: bool) -> Tensor:
        """Add a micro-batch's gradients; return its summed loss, hits and number of images."""
        recipe, images = self.recipe, len(batch.images)
        pixels = batch.images.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        mixing = draw_mixing(recipe, recipe.image_size, mixing_generator(recipe, step, batch.index))
        paths = path_generator(recipe, step, batch.index)
        kept = draw_kept(self.drop_path(step), self.model.config.depth, images, paths)
        kept = None if kept is None else kept.to(self.device, non_blocking=True)
        with self._gathering(synchronised), self._drawing(step, batch.index):
            low = DTYPES[recipe.dtype]
            with torch.autocast(self.device.type, low, enabled=low != torch.float32):
                outputs = self.run(mixing.blend(pixels), self.soft_mask(step), kept)
            scored = self.task.score(outputs, labels, mixing, recipe)
            share = images * self.world.size / recipe.batch_size  # processes are averaged later
            self.scaler.scale(scored.loss * share).backward()  # type: ignore[no-untyped-call]
        loss = scored.loss.detach().double() * images
        return torch.stack((loss, scored.hits.double(), loss.new_full((), images)))

    @contextlib.contextmanager
    def _drawing(self, step: int, index: int) -> Iterator[None]:
        """Make dropout a function of seed, step and micro-batch only."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(dropout_seed(self.recipe, step, index))
            yield

    def _gathering(self, synchronised: bool) -> AbstractContextManager[object]:
        """Exchange gradients with other processes only in a step's last backward pass."""
        if self.sharded:
            fsdp.exchange_gradients(self.model, on=synchronised)
        if synchronised or not isinstance(self.run, DistributedDataParallel):
            return contextlib.nullcontext()
        waiting: AbstractContextManager[object] = self.run.no_sync()
        return waiting

    def _update(self) -> None:
        """Clip the gradients, update the weights, and then their average."""
        self.scaler.unscale_(self.optimizer)
        if self.recipe.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None and self.recipe.ema is not None:
            follow(self.average, self.model, self.recipe.ema)


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return AdamW's groups: no decay for vectors, biases, positions and class token.

    With a layer decay there is a pair of groups for each depth, whose learning rate has the factor
    layer_decay ** (blocks after it); what follows the blocks has the full rate.
    """
    named = list(model.named_parameters())
    depth = 1 + max(int(found[1]) for name, _ in named if (found := _BLOCK.search(name)))
    groups: dict[tuple[float, bool], list[Tensor]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in named:
        decays = parameter.ndim > 1 and not name.endswith(_SPARED)
        groups.setdefault((layer_decay ** _blocks_after(name, depth), decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            "decays": decays,
            "scale": scale,
        }
        for (scale, decays), parameters in groups.items()
        if parameters
    ]


_SPARED = ("class_token", "position_embedding")
_EMBEDDING = (*_SPARED, "patch_embedding.weight", "patch_embedding.bias")
_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


def _blocks_after(name: str, depth: int) -> int:
    """Return the depth of a weight, counted backwards: 0 for what follows the blocks."""
    found = _BLOCK.search(name)
    if found:
        return depth - int(found[1])
    return depth + 1 if name.endswith(_EMBEDDING) else 0


def draw_kept(rate: float, depth: int, images: int, random: np.random.Generator) -> Tensor | None:
    """Draw which branches of which blocks each image takes, [block, branch, image]; None: all.

    The rate grows linearly over depth, 0 in the first block; kept branches are scaled up, so
    that the mean does not change (Huang et al. 2016).
    """
    if not rate:
        return None
    survival = 1 - np.linspace(0, rate, depth)[:, None, None]
    kept = random.random((depth, 2, images)) < survival
    return torch.from_numpy((kept / survival).astype(np.float32))


@torch.no_grad()
def follow(average: Model, model: Model, decay: float) -> None:
    """Move averaged weights towards the model's: decay * average + (1 - decay) * weights."""
    for own, new in zip(average.parameters(), model.parameters(), strict=True):
        own.lerp_(new, 1 - decay)


def task_of(recipe: Recipe) -> Task:
    """Return the recipe's task."""
    if recipe.task == "classification":
        return Classification()
    return Segmentation()
