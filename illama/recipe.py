"""Training recipes as data: what is trained, on what, for how long, and by which schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args, get_type_hints


class RecipeError(ValueError):
    """A recipe that cannot be trained as written; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that decides a training but the images themselves.

    Raises:
        RecipeError: a value is out of its range.
    """

    name: str
    """What `illama train` calls it."""
    summary: str
    """One line: what it trains, and the table it comes from."""
    data: str | None = None
    """The source that is trained on unless another is given; None: one must be given."""
    size: str
    """Key of `illama.SIZES`."""
    step: str = "soft-mask"
    """Key of `illama.STEPS`."""
    image_size: int
    """Side of the square input in pixels."""
    classes: int
    """Outputs of the head."""
    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images in one optimizer step, over all processes; what is left of an epoch is skipped."""
    lr: float
    """Learning rate after the warm-up, not scaled by the batch."""
    min_lr: float = 1e-6
    """Learning rate that the cosine falls to."""
    warmup_epochs: int
    """Epochs of linear warm-up from 0."""
    weight_decay: float = 0.05
    """Of the matrices; norms, biases, positions and class token have none."""
    soft_mask: float = 1.0
    """Where the soft mask starts, 0 to 1."""
    mask_schedule: Literal["constant", "linear"] = "constant"
    """How the soft mask goes until it is cut off."""
    cutoff_soft: int
    """Epoch from which the soft mask is 0."""
    label_smoothing: float = 0.1
    """Share of the target spread evenly over all classes."""
    crop_padding: int = 0
    """Pixels by which a training image is shifted at most, to each side."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Precision of the matrix products in training; weights and evaluation are fp32 always."""
    seed: int = 0
    """Of initial weights, order and augmentation."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise RecipeError(f"recipe {self.name}: {name}={value} is not in {low}..{high}")
        for name in ("warmup_epochs", "cutoff_soft"):
            if getattr(self, name) > self.epochs:
                raise RecipeError(
                    f"recipe {self.name}: {name}={getattr(self, name)} lies beyond the last of "
                    f"{self.epochs} epochs; lower it"
                )

    def override(self, assignments: Iterable[str]) -> Recipe:
        """Return the recipe with fields replaced, each written `field=value`.

        Raises:
            RecipeError: no such field, or a value of another type or out of its range.
        """
        return replace(self, **dict(self._parse(assignment) for assignment in assignments))

    def _parse(self, assignment: str) -> tuple[str, Any]:
        """Return the field and the value of `field=value`."""
        name, _, text = assignment.partition("=")
        kind = get_type_hints(Recipe).get(name)
        if kind is None or name == "name":
            known = ", ".join(field.name for field in fields(self) if field.name != "name")
            raise RecipeError(f"recipe {self.name}: no field {name!r}; the fields are {known}")
        choices = get_args(kind) if kind not in (int, float, str, str | None) else ()
        try:
            value = kind(text) if kind in (int, float) else text
        except ValueError:
            raise RecipeError(f"recipe {self.name}: {name}={text!r} is no {_WORDS[kind]}") from None
        if choices and value not in choices:
            raise RecipeError(
                f"recipe {self.name}: {name}={text!r} is not one of {', '.join(choices)}"
            )
        return name, value

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a plain dictionary, in declaration order."""
        return asdict(self)


_WORDS: Mapping[Any, str] = {int: "whole number", float: "number"}
_RANGES: Mapping[str, tuple[float, float]] = {
    "image_size": (1, math.inf),
    "classes": (1, math.inf),
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "lr": (0, math.inf),
    "min_lr": (0, math.inf),
    "warmup_epochs": (0, math.inf),
    "weight_decay": (0, math.inf),
    "soft_mask": (0, 1),
    "cutoff_soft": (0, math.inf),
    "label_smoothing": (0, 1),
    "crop_padding": (0, math.inf),
    "seed": (0, math.inf),
}

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="demo",
            summary="nano on the demo's drawn pictures: minutes on two cores",
            data="demo",
            size="nano",
            image_size=32,
            classes=10,
            epochs=8,
            batch_size=100,
            lr=1e-3,
            warmup_epochs=1,
            cutoff_soft=3,
            dtype="bf16",
        ),
    )
}
"""Every recipe by its name."""


def find_recipe(name: str) -> Recipe:
    """Return a recipe of the table.

    Raises:
        RecipeError: there is none of this name.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
