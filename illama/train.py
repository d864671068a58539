"""Train a model: the one loop, from a recipe and two sources to a log and a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from illama import checkpoint, schedule
from illama.batches import draw_batches, prepare
from illama.config import Config
from illama.data import Transform, evaluation_transform
from illama.model import Model
from illama.recipe import Recipe
from illama.sources import Source

Record = dict[str, float | int]
"""One line of the log, with the names and units of the released logs: `test_acc1` and `test_acc5`
in percent, `train_class_acc` a fraction; `train_...` are means over the epoch's steps, `test_...`
holds at `test_soft_mask_rate`, the mask of the last step. `test_..._at_0` is our own: the same at
soft mask 0, as the model will run."""

BETAS = (0.9, 0.999)
"""AdamW's, in every recipe of the paper (Table 12)."""


class TrainingError(ValueError):
    """A training that cannot start or go on; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 3


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training leaves behind."""

    model: Model
    """In evaluation mode, on the device it was trained on."""
    log: tuple[Record, ...]
    """One record per epoch."""
    checkpoint: Path
    """The `.safetensors` file; a `.pth` in the released layout lies beside it."""


def fit(
    recipe: Recipe,
    train_source: Source,
    test_source: Source,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    console: Console | None = None,
) -> Trained:
    """Train a model from scratch; write recipe.json, log.jsonl and the weights to the folder `out`.

    The weights are named after the folder. On a CPU, equal recipes, images and thread counts give
    equal weights, bit for bit.

    Args:
        recipe: what to train, and how.
        train_source: labeled images.
        test_source: labeled images, measured after each epoch; nothing is chosen by them.
        out: folder, made if missing.
        device: where to train.
        console: where a line per epoch and, on a terminal, a progress bar are shown.

    Raises:
        TrainingError: `out` holds trained weights, images are unlabeled or too few, or the loss is
            not finite.
        SourceError: the labels do not fit the recipe's classes.
        CheckpointError: the weights cannot be written.
    """
    sources = [_labeled(source, recipe) for source in (train_source, test_source)]
    training = Training(recipe, len(train_source), torch.device(device))
    target = _claim(out, recipe)
    log = []
    with _live(console, training.steps) as live:
        for epoch in range(recipe.epochs):
            log.append(training.run_epoch(epoch, sources[0], sources[1], live))
            with (out / "log.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(log[-1]) + "\n")
            live.console.print(_in_words(log[-1], recipe.epochs), highlight=False)
    given = {**recipe.to_dict(), "train_fingerprint": sources[0].fingerprint}
    for path in (target.with_suffix(".pth"), target):
        training.save(path, given)
    return Trained(model=training.model.eval(), log=tuple(log), checkpoint=target)


class Training:
    """A model, its optimizer, and the schedules that drive both; steps count over all epochs."""

    def __init__(self, recipe: Recipe, images: int, device: torch.device) -> None:
        self.recipe = recipe
        self.device = device
        self.steps_per_epoch = images // recipe.batch_size
        if not self.steps_per_epoch:
            raise TrainingError(
                f"recipe {recipe.name}: {images} training images do not fill a batch of "
                f"{recipe.batch_size}; lower batch_size"
            )
        self.steps = recipe.epochs * self.steps_per_epoch
        self.model = build(recipe).to(device)
        groups = parameter_groups(self.model, recipe.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=BETAS)
        self.transform = evaluation_transform(recipe.image_size)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return schedule.learning_rate(
            step,
            peak=self.recipe.lr,
            minimum=self.recipe.min_lr,
            warmup_steps=self.recipe.warmup_epochs * self.steps_per_epoch,
            steps=self.steps,
        )

    def soft_mask(self, step: int) -> float:
        """Return the soft mask of a step."""
        return schedule.soft_mask(
            step,
            start=self.recipe.soft_mask,
            schedule=self.recipe.mask_schedule,
            cutoff_steps=self.recipe.cutoff_soft * self.steps_per_epoch,
        )

    def run_epoch(
        self, epoch: int, train_source: Source, test_source: Source, live: Progress
    ) -> Record:
        """Train on every image once, evaluate, and return the log's record."""
        first = epoch * self.steps_per_epoch
        taken = []
        self.model.train()
        drawn = draw_batches(train_source, self.transform, self.recipe, epoch)
        for step, (images, labels) in enumerate(drawn, start=first):
            taken.append(self.take_step(step, images, labels))
            live.update(live.task_ids[0], advance=1, loss=taken[-1]["train_loss"])
        return {
            **{name: fmean(each[name] for each in taken) for name in taken[0]},
            **self.test(test_source, self.soft_mask(first + self.steps_per_epoch - 1)),
            "epoch": epoch,
            "n_parameters": sum(p.numel() for p in self.model.parameters()),
        }

    def take_step(self, step: int, images: Tensor, labels: Tensor) -> Record:
        """Take an optimizer step on a batch and return its part of the record.

        Raises:
            TrainingError: the loss is not finite; the weights are left as they were.
        """
        rate, soft_mask = self.learning_rate(step), self.soft_mask(step)
        images, labels = images.to(self.device), labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.dtype == "bf16"):
            logits = self.model(images, soft_mask).float()
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(f"recipe {self.recipe.name}: loss {value} in step {step}; lower lr")
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return {
            "train_lr": rate,
            "train_loss": value,
            "train_class_acc": (logits.argmax(-1) == labels).float().mean().item(),
            "train_soft_mask_rate": soft_mask,
        }

    def test(self, source: Source, soft_mask: float) -> Record:
        """Return loss and accuracies at a soft mask, and at 0."""
        self.model.eval()
        at = {
            value: evaluate(self.model, source, self.transform, value, self.recipe.batch_size)
            for value in {soft_mask, 0.0}
        }
        return {
            **at[soft_mask],
            "test_soft_mask_rate": soft_mask,
            **{f"{name}_at_0": value for name, value in at[0.0].items()},
        }

    def save(self, path: Path, args: Mapping[str, Any]) -> None:
        """Write the weights, to be run with the soft mask of the last step."""
        checkpoint.save(
            self.model,
            path,
            soft_mask=self.soft_mask(self.steps - 1),
            epoch=self.recipe.epochs - 1,
            args=args,
        )


def build(recipe: Recipe) -> Model:
    """Return the recipe's model with fresh weights, drawn from its seed alone."""
    config = Config.at(
        recipe.step, recipe.size, image_size=recipe.image_size, classes=recipe.classes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Model(config)


def parameter_groups(model: Model, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: no decay for vectors, biases, positions and class token."""
    spared = ("class_token", "position_embedding")
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[parameter.ndim > 1 and name not in spared].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


@torch.no_grad()
def evaluate(
    model: Model, source: Source, transform: Transform, soft_mask: float, batch_size: int
) -> Record:
    """Return `test_loss` (nats) and `test_acc1`, `test_acc5` (percent) in fp32."""
    device = model.class_token.device
    loss, ranks = [], []
    for positions in np.array_split(np.arange(len(source)), -(-len(source) // batch_size)):
        images, labels = (part.to(device) for part in prepare(source, transform, positions))
        logits = model(images, soft_mask)
        own = logits.gather(1, labels[:, None])
        loss.append(functional.cross_entropy(logits, labels, reduction="none"))
        ranks.append((logits > own).sum(-1))
    rank = torch.cat(ranks)
    return {
        "test_loss": torch.cat(loss).double().mean().item(),
        "test_acc1": 100 * (rank < 1).sum().item() / len(rank),
        "test_acc5": 100 * (rank < 5).sum().item() / len(rank),  # noqa: PLR2004 - its name
    }


def _labeled(source: Source, recipe: Recipe) -> Source:
    """Return the source in the numbering of the recipe's head."""
    if source.labels is None:
        raise TrainingError(f"{source.name} has no labels to train on or to test with")
    return source.for_head(recipe.classes)


def _claim(out: Path, recipe: Recipe) -> Path:
    """Make the folder ready for a training and return where its weights will stand."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{out.resolve().name}.safetensors"
    if target.exists():
        raise TrainingError(f"{target} is trained already; choose another --out, or remove it")
    (out / "log.jsonl").write_text("", encoding="utf-8")
    (out / "recipe.json").write_text(json.dumps(recipe.to_dict(), indent=2) + "\n", "utf-8")
    return target


def _live(console: Console | None, steps: int) -> Progress:
    """Return a progress line with one task; shown on a terminal only."""
    console = console or Console(quiet=True)
    live = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    live.add_task("steps", total=steps, loss=math.nan)
    return live


def _in_words(record: Record, epochs: int) -> str:
    """Return one line about an epoch."""
    return (
        f"epoch {record['epoch'] + 1}/{epochs}: loss {record['train_loss']:.3f}, "
        f"test top-1 {record['test_acc1']:.2f} % at soft mask {record['test_soft_mask_rate']:.2f}, "
        f"{record['test_acc1_at_0']:.2f} % at 0"
    )
