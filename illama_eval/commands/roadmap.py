"""`illama-eval roadmap`: train and measure every step from ViT to iLLaMA alike."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from illama.sources.source import Source
from illama.training.loop import Execution, fit
from illama.training.recipe import Recipe, RecipeError, find_recipe
from illama.training.trainer import task_of
from illama_eval.render.roadmap_runs import PLAN
from illama_eval.run.directory import claim
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import open_checkpoint

FIXED: Mapping[str, str] = {
    "step": "--step",
    "seed": "--seeds",
    "data": "--data",
    "size": "--size",
    "epochs": "--epochs",
    "classes": "the images",
    "task": "the road, which classifies",
    "start": "the road, which trains every step from the same random start",
}
"""Fields of a recipe that `--set` may not change, and what decides them."""
SHORTEST = 2
"""Epochs of a training with a soft phase and a causal one, at least."""
MEASURED = ("accuracy", "calibration", "rank", "collapse")
"""Studies that every trained model goes through."""
FURTHER = ("causality", "anytime", "lens", "distance")
"""Studies of the same models that are left to `run`, most of which need further passes."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One model of the experiment: an architecture and its mask schedule."""

    step: str
    """Key of illama.STEPS."""
    soft: bool = False
    """Whether training begins with the recipe's soft mask; else the mask is closed throughout."""
    paper: float | None = None
    """Top-1 that the paper reports of this step for size T on ImageNet-1K (Tables 1 and 17)."""


ARMS: Mapping[str, Arm] = {
    "vit": Arm(step="vit", paper=0.738),
    "swiglu": Arm(step="swiglu", paper=0.743),
    "rmsnorm": Arm(step="rmsnorm", paper=0.745),
    "class-first-causal": Arm(step="class-first-causal", paper=0.001),
    "modified-mask": Arm(step="modified-mask", paper=0.725),
    "post-sequence-class": Arm(step="post-sequence-class", paper=0.719),
    "rope-only": Arm(step="rope-only", paper=0.726),
    "rope-and-learned": Arm(step="rope-and-learned", paper=0.732),
    "multiplicative-mask": Arm(step="soft-mask"),
    "soft-mask": Arm(step="soft-mask", soft=True, paper=0.75),
    "class-first-multiplicative": Arm(step="class-first-multiplicative"),
}
"""Every step of the road, in its order. Two arms are not in the paper: `multiplicative-mask` has
the architecture of `soft-mask`, but its mask is closed from the first step on, so that the mask's
form and its schedule are distinguished; `class-first-multiplicative` puts the class token first
under that mask. The paper's soft-mask row also changes mixup and cutmix; here nothing else does."""

QUESTIONS: Sequence[tuple[str, str, str]] = (
    ("class-first-causal", "post-sequence-class", "Does moving the class token cure collapse?"),
    ("class-first-causal", "modified-mask", "Does opening the class token's row cure it as well?"),
    (
        "class-first-causal",
        "class-first-multiplicative",
        "Does a class token in front learn through the softmax's denominator alone?",
    ),
    ("rope-and-learned", "multiplicative-mask", "Does the mask's form matter, at equal schedule?"),
    ("multiplicative-mask", "soft-mask", "Does the soft schedule matter, at equal mask?"),
)
"""Pairs of arms that differ in one thing, and the question that their difference answers."""


@dataclass(frozen=True, kw_only=True)
class Roadmap:
    """What all runs of one folder share."""

    recipe: Recipe
    """The training of every arm; step, soft mask and seed are replaced."""
    train: Source
    test: Source
    out: Path
    device: torch.device
    command: tuple[str, ...] = ()
    """The words of the command line that repeats the road, for the header of its runs."""

    def identity(self) -> dict[str, Any]:
        """Return what must agree between all runs of the folder."""
        varied = ("name", "summary", "step", "seed", "data")
        shared = {k: v for k, v in self.recipe.to_dict().items() if k not in varied}
        return {
            "recipe": shared,
            **{
                part: {
                    "source": source.name,
                    "images": len(source),
                    "fingerprint": source.fingerprint,
                }
                for part, source in (("train", self.train), ("test", self.test))
            },
        }

    def test_for(self, recipe: Recipe) -> Source:
        """Return the test images in the numbering of the training images' classes."""
        return task_of(recipe).check(self.train, self.test, recipe)[1]

    def recipe_of(self, name: str, seed: int) -> Recipe:
        """Return the training of one arm and seed."""
        arm = ARMS[name]
        return replace(
            self.recipe,
            name=f"{name}-seed{seed}",
            summary=f"roadmap: {name}",
            step=arm.step,
            soft_mask=self.recipe.soft_mask if arm.soft else 0.0,
            seed=seed,
        )


def shared_recipe(
    base: str, size: str, source: Source, epochs: int | None, changes: Sequence[str]
) -> Recipe:
    """Return the recipe `base` for another size, class count and length.

    Warm-up and soft phase keep their share of the epochs, at least one each.

    Raises:
        RecipeError: no such recipe, or a change that does not fit.
    """
    recipe = find_recipe(base)
    epochs = epochs or recipe.epochs
    if epochs < SHORTEST:
        raise RecipeError(
            f"roadmap: {epochs} epochs are too few for a soft and a causal phase; give 2 or more"
        )
    scaled = {
        name: min(epochs - 1, max(1, round(getattr(recipe, name) * epochs / recipe.epochs)))
        for name in ("warmup_epochs", "cutoff_soft")
    }
    classes = len(source.classes or ()) or recipe.classes
    given = {"size": size, "classes": classes, "epochs": epochs, **scaled}
    whole = recipe.override(f"{name}={value}" for name, value in given.items())
    return whole.override(changes, FIXED)


def choose_arms(names: Sequence[str]) -> tuple[str, ...]:
    """Return the arms of these names in the road's order; all of them where none is named.

    Raises:
        RecipeError: there is no such arm.
    """
    unknown = next((name for name in names if name not in ARMS), None)
    if unknown is not None:
        raise RecipeError(f"roadmap: no step {unknown!r}; there are {', '.join(ARMS)}")
    return tuple(name for name in ARMS if name in names or not names)


def travel(roadmap: Roadmap, arms: Sequence[str], seeds: int, console: Console) -> Iterator[Path]:
    """Train and measure each arm with each seed, and yield the run directories as they are done.

    A finished run is kept, an interrupted training is continued.

    Raises:
        ResultError: the folder has runs of another recipe or other images.
        TrainingError: a training cannot start or continue.
    """
    claim(
        roadmap.out / PLAN,
        roadmap.identity(),
        _notes(),
        "choose another --out, or the same options",
    )
    planned = [(name, seed) for seed in range(seeds) for name in arms]
    for number, (name, seed) in enumerate(planned, start=1):
        console.print(f"[{number}/{len(planned)}] {name}, seed {seed}", markup=False)
        yield _measure_arm(roadmap, roadmap.recipe_of(name, seed), console)


def further_command(out: Path, data: str, arms: Sequence[str]) -> str:
    """Return the command for a shell that measures more of the models, side by side."""
    steps = f"{{{','.join(arms)}}}" if len(arms) > 1 else arms[0]
    weights = f"{shlex.quote(str(out / 'training'))}/{steps}-seed*/*.safetensors"
    return f"illama-eval run {weights} --data {shlex.quote(data)} --only {','.join(FURTHER)}"


def _notes() -> dict[str, Any]:
    """Return what else the file of a folder says: the questions and the arms."""
    return {
        "questions": [list(each) for each in QUESTIONS],
        "arms": {name: {"step": arm.step, "paper": arm.paper} for name, arm in ARMS.items()},
    }


def _measure_arm(roadmap: Roadmap, recipe: Recipe, console: Console) -> Path:
    """Train and measure one model; return its run directory."""
    training = roadmap.out / "training" / recipe.name
    weights = training / f"{recipe.name}.safetensors"
    if not weights.exists():
        execution = Execution(device=roadmap.device, keep=1)
        fit(recipe, roadmap.train, roadmap.test, training, execution=execution, console=console)
    out = roadmap.out / "runs" / recipe.name
    evaluate(
        open_checkpoint(weights, device=roadmap.device),
        roadmap.test_for(recipe),
        [STUDIES[name]() for name in MEASURED],
        out,
        Options(samples=False, command=roadmap.command),
    )
    for name in ("log.jsonl", "recipe.json"):
        shutil.copyfile(training / name, out / name)
    return out
