"""Training steps per second against a plain loop of the released arithmetic, in one process.

    python benchmarks/train.py [--size tiny] [--batch 32] [--rounds 3] [--images FOLDER]

All loops take AdamW steps of the same model on the same batch, interleaved, so that a busy machine
slows them alike. Ratios are to the plain loop in fp32: of medians and, for a machine that others
use, of the best. On a GPU, timm's DeiT of the same size runs beside them where timm is installed.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from forward import describe
from plain import PlainModel
from torch import nn
from torch.nn import functional

from illama.distributed import World
from illama.sources import open_source
from illama.training.augmentation import Augmentation
from illama.training.loader import Batch, ImageDataset, draw_batches, load_batches
from illama.training.recipe import Recipe, find_recipe
from illama.training.trainer import BETAS, Trainer
from illama.transforms import evaluation_transform

WARM_UP = 2
"""Rounds that are not counted: compilation and caches."""

Step = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="tiny", choices=["tiny", "small", "base"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", help="Source of photographs, for the loader.")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = find_recipe(f"{arguments.size}-in1k").override(
        [f"batch_size={arguments.batch}", "micro_batch=none", "mixup=0", "cutmix=0", "drop_path=0"]
    )
    report = {
        "machine": describe(device),
        "size": arguments.size,
        "batch": arguments.batch,
        "steps": measure(recipe, arguments.rounds, device),
        "loader": arguments.images and measure_loader(recipe, arguments.images),
    }
    print(json.dumps(report, indent=1))


def measure(recipe: Recipe, rounds: int, device: torch.device) -> Mapping[str, object]:
    """Return images per second of every variant, and the ratio to the plain loop in fp32."""
    count, side = recipe.batch_size, recipe.image_size
    images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(count) % recipe.classes, np.arange(count), 0)
    variants: dict[str, Step] = {
        "plain fp32": plain_steps(PlainModel(Trainer(recipe, count).model), recipe, batch, device),
        "ours fp32": our_steps(recipe, batch, device),
        "ours fp32 compiled": our_steps(recipe, batch, device, compiled=True),
        "ours bf16 compiled": our_steps(recipe, batch, device, dtype="bf16", compiled=True),
        **deit_steps(recipe, batch, device),
    }
    seconds = interleave(variants, rounds, device)
    base = seconds["plain fp32"]
    return {
        name: {
            "ratio": round(statistics.median(base) / statistics.median(taken), 3),
            "ratio_of_best": round(min(base) / min(taken), 3),
            "images_per_second": round(count / statistics.median(taken), 1),
            "seconds": [round(each, 4) for each in taken],
            **peak_memory(variants[name], device),
        }
        for name, taken in seconds.items()
    }


def plain_steps(module: nn.Module, recipe: Recipe, batch: Batch, device: torch.device) -> Step:
    """Return a plain loop's step: forward, loss, backward, AdamW, all in fp32."""
    model = module.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=BETAS)

    def step() -> float:
        images, labels = batch.images.to(device), batch.labels.to(device)
        smoothing = recipe.label_smoothing
        loss = functional.cross_entropy(model(images), labels, label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_steps(
    recipe: Recipe,
    batch: Batch,
    device: torch.device,
    *,
    dtype: str = "fp32",
    compiled: bool = False,
) -> Step:
    """Return our loop's step, after the soft phase."""
    world = World(device=device)
    trainer = Trainer(
        recipe.override([f"dtype={dtype}"]), recipe.batch_size, world, compiled=compiled
    )
    trainer.model.train()
    last = trainer.steps - 1
    return lambda: trainer.take_step(last, [batch])


def deit_steps(recipe: Recipe, batch: Batch, device: torch.device) -> dict[str, Step]:
    """Return the step of timm's DeiT of the same size, on a GPU where timm is installed."""
    if device.type != "cuda":
        return {}
    try:
        import timm  # noqa: PLC0415 - optional
    except ImportError:
        return {}
    deit = timm.create_model(f"deit_{recipe.size}_patch16_224", num_classes=recipe.classes)
    return {"timm deit fp32": plain_steps(deit, recipe, batch, device)}


def interleave(
    variants: Mapping[str, Step], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the seconds of each variant's steps, one of each per round."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for each in range(rounds + WARM_UP):
        for name, step in variants.items():
            begin = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if each >= WARM_UP:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def peak_memory(step: Step, device: torch.device) -> dict[str, float]:
    """Return what a step needs at most beyond what it holds between steps, in GiB."""
    if device.type != "cuda":
        return {}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return {"peak_gib": round((torch.cuda.max_memory_allocated() - before) / 2**30, 2)}


def measure_loader(recipe: Recipe, spec: str) -> dict[str, float]:
    """Return augmented images per second of one loader worker."""
    source = open_source(spec)
    vary = Augmentation(recipe, evaluation_transform(recipe.image_size))
    pictures = ImageDataset(source, vary, recipe.seed, substitutes=True)
    steps = max(1, len(source) // recipe.batch_size)
    drawn = list(draw_batches(len(source), recipe, 0, steps, World()))
    begin = time.perf_counter()
    images = sum(
        len(batch.images) for batch in load_batches(pictures, drawn, 1, torch.device("cpu"))
    )
    return {"images_per_second_and_worker": round(images / (time.perf_counter() - begin), 1)}


if __name__ == "__main__":
    main()
