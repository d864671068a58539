"""Fine-tuning: recipes, the training itself, and the result that it adds to the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from illama.checkpoint.save import save_checkpoint
from illama.config import SIZES, STEPS, Config
from illama.model import Model
from illama.sources.source import Source
from illama.training.folder import BROKEN
from illama.training.loop import Execution, fit
from illama.training.recipe import RECIPES, Recipe
from illama_eval.results import CURVE_POINTS, Curve
from illama_eval.run.directory import claim
from illama_eval.study import StudyResult, row
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import SubjectError
from illama_eval.transfer.probe import METRICS, count_training_images
from illama_eval.transfer.splits import TransferSplit

Preset = Literal["paper", "quick"]
"""The paper's recipe for CIFAR, or QUICK."""
QUICK: Mapping[str, Any] = {
    "epochs": 20,
    "lr": 5e-4,
    "warmup_epochs": 2,
    "clip_grad": 1.0,
    "cutoff_soft": 0,
}
"""Our own recipe for a laptop: no mixing, causal from the start."""
QUICK_BATCH, QUICK_STEPS = 128, 8
"""Images in a step at most, and steps in an epoch at least."""
SHIFT = 16
"""The quick recipe shifts images by at most the side over this."""
START, TASK = "start.safetensors", "task.json"
"""Files in the folder of a training: the weights it starts from, and all that decides it."""
FIXED: Mapping[str, str] = {
    "start": "the checkpoint",
    "size": "the checkpoint",
    "step": "the checkpoint",
    "classes": "the images",
    "data": "--data",
    "task": "transfer, which classifies",
}
"""Fields of a recipe that `--set` may not change, and what decides them."""
_LOCAL = ("name", "summary", "data", "start")
"""Fields of a recipe that name things on this machine."""


def make_recipe(
    base: ModelSubject,
    folder: Path,
    split: TransferSplit,
    preset: Preset,
    changes: Sequence[str],
    seed: int,
) -> Recipe:
    """Return the recipe of a preset for this model and these images.

    Raises:
        SubjectError: the model is not of a size in SIZES.
        RecipeError: a change does not fit, or is of a field that something else decides.
    """
    config = base.model.config
    size, step = _find_size(base, config)
    fields: dict[str, Any] = {
        "size": size,
        "step": step,
        "image_size": config.image_size,
        "classes": split.classes,
        "start": str(folder / START),
        "seed": seed,
        "data": None,
    }
    if config.masking != "multiplicative":
        fields["soft_mask"] = 0.0
    if preset == "paper":
        paper = RECIPES["tiny-cifar100" if split.train.name == "cifar100" else "tiny-cifar10"]
        if base.device.type == "cpu":
            fields["dtype"] = "fp32"
        return replace(paper, **fields).override(changes, FIXED)
    batch = max(1, min(QUICK_BATCH, len(split.train) // QUICK_STEPS))
    return Recipe(
        name="quick",
        summary="20 epochs of all weights, images shifted at most",
        batch_size=batch,
        crop_padding=config.image_size // SHIFT,
        **QUICK,
        **fields,
    ).override(changes, FIXED)


def train(
    recipe: Recipe,
    split: TransferSplit,
    folder: Path,
    base: ModelSubject,
    *,
    workers: int = 0,
    compiled: bool = False,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Train, or continue an interrupted training, unless it is finished; return the log.

    Raises:
        ResultError: the folder holds another training.
        SystemExit: the process was interrupted; what is trained is kept.
    """
    if overwrite and (folder / TASK).is_file():
        shutil.rmtree(folder)
    claim(folder / TASK, identity_of_training(recipe, split, base))
    if not (folder / f"{folder.name}.safetensors").is_file():
        execution = Execution(
            device=base.device,
            workers=workers,
            compiled=compiled,
            keep=1,
            max_bad=len(split.train) + len(split.test),  # as the other probes leave them out
        )
        console = Console(stderr=True, highlight=False)
        write_start(base, folder / START, split.classes, recipe.seed)
        console.print(f"training {base.name} on {len(split.train):,} images", markup=False)
        fit(recipe, split.train, split.test, folder, execution=execution, console=console)
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def identity_of_training(
    recipe: Recipe, split: TransferSplit, base: ModelSubject
) -> dict[str, Any]:
    """Return all that decides a training, as JSON reads it back."""
    fields = {k: v for k, v in recipe.to_dict().items() if k not in _LOCAL}
    plain: dict[str, Any] = json.loads(
        json.dumps(
            {
                **fields,
                "start": base.describe()["weights_sha256"],
                "training images": split.train.fingerprint,
                "test images": split.test.fingerprint,
            }
        )
    )
    return plain


def write_start(base: ModelSubject, path: Path, classes: int, seed: int) -> None:
    """Write the weights to start from: the model's own, with a new random head.

    Raises:
        CheckpointError: they cannot be written.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(replace(base.model.config, classes=classes))
    kept = {k: v for k, v in base.model.state_dict().items() if not k.startswith("head.")}
    model.load_state_dict({**model.state_dict(), **kept})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, path, transform=base.transform)


def _find_size(base: ModelSubject, config: Config) -> tuple[str, str]:
    """Return the size and the step of the road that a config is."""
    for size in SIZES:
        for step in STEPS:
            same = {"image_size": config.image_size, "classes": config.classes}
            if Config.at(step, size, **same) == config:
                return size, step
    raise SubjectError(
        f"{base.name}: none of the sizes {', '.join(SIZES)} at a step of the road; finetune trains "
        "these"
    )


def best_epoch(log: Sequence[Mapping[str, Any]]) -> int:
    """Return the epoch, from 1, with the highest accuracy on the test images, the first of them."""
    return 1 + int(np.argmax([record["test_acc1_at_0"] for record in log]))


def count_broken(folder: Path, source: Source) -> int:
    """Return how many of a source's images could not be read in a training."""
    path = folder / BROKEN
    if not path.is_file():
        return 0
    known = {f"{source.split}: {one}" for one in source.ids}
    parts = (line.split(": ") for line in path.read_text("utf-8").splitlines())
    return sum(
        any(": ".join(words[:end]) in known for end in range(2, len(words) + 1)) for words in parts
    )


def result_of_training(
    split: TransferSplit, log: Sequence[Mapping[str, Any]], broken: int = 0
) -> StudyResult:
    """Return the number of training images, the best epoch, and accuracy over the epochs.

    `broken` training images could not be read; each was replaced by the next one.
    """
    images = len(split.train) - broken
    best = best_epoch(log)
    reached = log[best - 1]["test_acc1_at_0"]
    reason = (
        f"of {len(log)}; it reached {reached:.2f} % on the test images, which chose it, so it is "
        "no fair estimate"
    )
    rows = (
        count_training_images(images, broken),
        row(
            "best_epoch",
            float(best),
            len(split.test),
            declared=METRICS["best_epoch"],
            reason=reason,
        ),
    )
    kept = np.unique(np.linspace(0, len(log) - 1, min(len(log), CURVE_POINTS)).round().astype(int))
    curve = Curve(
        name="top1",
        at={"over": "epoch"},
        x=tuple(float(index + 1) for index in kept),
        y=tuple(log[index]["test_acc1_at_0"] / 100 for index in kept),
    )
    return StudyResult(rows=rows, curves=(curve,))
