"""Training recipes: model, data, length, schedules and augmentation of a training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from illama.config import Dtype
from illama.suggestions import did_you_mean
from illama.training.recipes import TABLE


class RecipeError(ValueError):
    """A recipe that cannot be trained as written; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that determines a training except the images.

    Raises:
        RecipeError: a value is out of its range.
    """

    name: str
    """Its name on the command line of `illama train`."""
    summary: str
    """One line: what it trains, and the table it comes from."""
    data: str | None = None
    """The default source to train on; None: --data must name one."""
    start: str | None = None
    """The checkpoint to start from; None: random weights. Positions are resized, and a head of
    another number of classes is drawn anew."""
    size: str
    """Key of `illama.SIZES`."""
    step: str = "soft-mask"
    """Key of `illama.STEPS`."""
    task: Literal["classification", "segmentation"] = "classification"
    """What is predicted: a class per image, or per pixel."""
    image_size: int
    """Side of the square input in pixels."""
    classes: int
    """Outputs of the head."""
    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images in one optimizer step, over all processes; the remainder of an epoch is skipped."""
    micro_batch: int | None = None
    """Images in one pass of one process at most, whose gradients add up to the step's; None: as
    few passes as there are processes. Mixing happens inside a micro-batch."""
    lr: float
    """Learning rate after the warm-up, not scaled by the batch."""
    min_lr: float = 1e-6
    """Learning rate that the cosine falls to."""
    lr_schedule: Literal["cosine", "polynomial"] = "cosine"
    """How the learning rate falls: half a cosine, or a straight line to 0."""
    layer_decay: float = 1.0
    """Factor of the learning rate per block of the backbone, from the last one down."""
    warmup_epochs: int
    """Epochs of linear warm-up from 0."""
    warmup_steps: int | None = None
    """The same in optimizer steps; None: `warmup_epochs` is used."""
    weight_decay: float = 0.05
    """Weight decay of the matrices; norms, biases, positions and class token have none."""
    weight_decay_end: float | None = None
    """Final weight decay of a cosine schedule; None: constant."""
    clip_grad: float | None = None
    """Largest norm of all gradients together; None: no clipping."""
    ema: float | None = None
    """Decay of a moving average of the weights; None: no average."""
    soft_mask: float = 1.0
    """Initial soft mask, 0 to 1."""
    mask_schedule: Literal["constant", "linear"] = "constant"
    """How the soft mask changes before `cutoff_soft`."""
    cutoff_soft: int
    """Epoch from which the soft mask is 0."""
    keep_soft_mask: bool = False
    """Allow a soft mask that is not 0 in the last step; the model must then be run with it."""
    drop_path: float = 0.0
    """Share of images for which the last block is skipped; less in the blocks before, linearly."""
    drop_mode: Literal["standard", "early", "late"] = "standard"
    """When paths are dropped: always, before `drop_cutoff`, or from it on (Liu et al. 2023)."""
    drop_schedule: Literal["constant", "linear"] = "constant"
    """How `drop_path` changes in mode early: constant, or falling to 0 at `drop_cutoff`."""
    drop_cutoff: int = 0
    """Epoch that ends mode early and starts mode late."""
    label_smoothing: float = 0.1
    """Share of the target spread evenly over all classes."""
    mixup: float = 0.0
    """Parameter of mixup's beta distribution (Zhang et al. 2018); 0: no mixup."""
    cutmix: float = 0.0
    """Parameter of CutMix's beta distribution (Yun et al. 2019); 0: no CutMix."""
    mixup_prob: float = 1.0
    """Probability that a micro-batch is mixed."""
    switch_prob: float = 0.5
    """Probability of cutmix where both are on."""
    crop: Literal["none", "resized"] = "none"
    """The crop of an image: that of the evaluation, or a random part of it, resized."""
    crop_padding: int = 0
    """Most pixels by which an image is shifted in each direction; the uncovered area is black."""
    crop_scale: float = 0.08
    """Smallest share of the image that a resized crop keeps."""
    flip: float = 0.0
    """Probability of a horizontal flip."""
    rand_augment: str | None = None
    """RandAugment (Cubuk et al. 2020) in timm's notation: magnitude m, its spread mstd, inc1."""
    color_jitter: float = 0.0
    """Largest change of brightness, contrast and saturation; without RandAugment only."""
    short_side: int | None = None
    """Segmentation: the short side to which images are resized before their scale is varied; None:
    they are not resized."""
    scales: float = 1.0
    """Segmentation: largest factor of the random scale, up or down; 2 is half to double."""
    photometric: bool = False
    """Segmentation: vary brightness, contrast, saturation and hue, each half of the time."""
    erasing: float = 0.0
    """Probability that a rectangle is replaced by noise (Zhong et al. 2020)."""
    repeats: int = 1
    """Times each image is used in an epoch, which has as many fewer images (Hoffer et al. 2020)."""
    shuffle_buffer: int = 0
    """Size of the buffer in which the stored order is shuffled, for shards that are read as
    streams; 0: all images."""
    dtype: Dtype = "fp32"
    """Precision of the matrix products in training; weights and evaluation are always fp32."""
    recompute: bool = False
    """Recompute blocks in the backward pass instead of keeping their activations."""
    seed: int = 0
    """Seed of initial weights, order and augmentation."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RecipeError(f"recipe {self.name}: {name}={value} is not in {low}..{high}")
        for name in ("warmup_epochs", "cutoff_soft", "drop_cutoff"):
            if getattr(self, name) > self.epochs:
                raise RecipeError(
                    f"recipe {self.name}: {name}={getattr(self, name)} is more than the "
                    f"{self.epochs} epochs; lower it"
                )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, so that targets are shares of classes."""
        return self.mixup_prob > 0 and max(self.mixup, self.cutmix) > 0

    def override(
        self, assignments: Iterable[str], fixed: Mapping[str, str] | None = None
    ) -> Recipe:
        """Return the recipe with fields replaced, each written `field=value`.

        `fixed` names fields that may not be replaced, each with what decides it.

        Raises:
            RecipeError: a field is unknown or fixed, or its value has another type or is out of
                range.
        """
        assignments = list(assignments)
        for assignment in assignments:
            name = assignment.partition("=")[0]
            if name in (fixed or {}):
                raise RecipeError(
                    f"recipe {self.name}: {name} follows from {(fixed or {})[name]}; leave "
                    f"{assignment} out"
                )
        return replace(self, **dict(self._parse(assignment) for assignment in assignments))

    def _parse(self, assignment: str) -> tuple[str, Any]:
        """Return the field and the value of `field=value`."""
        name, _, text = assignment.partition("=")
        hint = get_type_hints(Recipe).get(name)
        if hint is None or name == "name":
            known = ", ".join(field.name for field in fields(self) if field.name != "name")
            raise RecipeError(f"recipe {self.name}: no field {name!r}; the fields are {known}")
        options = get_args(hint)
        if type(None) in options and text == "none":
            return name, None
        kind = options[0] if type(None) in options else hint
        try:
            return name, _READERS[kind](text) if kind in _READERS else _choose(text, options)
        except ValueError:
            wanted = _WORDS.get(kind, f"one of {', '.join(map(str, options))}")
            raise RecipeError(f"recipe {self.name}: {name}={text!r} is not {wanted}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a plain dictionary, in declaration order."""
        return asdict(self)


def _choose(text: str, options: tuple[Any, ...]) -> Any:
    """Return the option of this name."""
    return options[options.index(text)] if text in options else _refuse(text)


def _read_flag(text: str) -> bool:
    """Return the value of `true` or `false`."""
    return {"true": True, "false": False}[text] if text in ("true", "false") else _refuse(text)


def _refuse(text: str) -> Any:
    raise ValueError(text)


_READERS: Mapping[Any, Any] = {int: int, float: float, str: str, bool: _read_flag}
_WORDS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("image_size", "classes", "epochs", "batch_size", "micro_batch"), (1, math.inf)
    ),
    **dict.fromkeys(("lr", "min_lr", "warmup_epochs", "weight_decay"), (0, math.inf)),
    **dict.fromkeys(("weight_decay_end", "cutoff_soft", "drop_cutoff", "seed"), (0, math.inf)),
    **dict.fromkeys(("mixup", "cutmix", "crop_padding", "color_jitter"), (0, math.inf)),
    **dict.fromkeys(("soft_mask", "label_smoothing", "flip", "erasing"), (0, 1)),
    **dict.fromkeys(("mixup_prob", "switch_prob", "crop_scale"), (0, 1)),
    **dict.fromkeys(("micro_batch", "repeats"), (1, math.inf)),
    "shuffle_buffer": (0, math.inf),
    "clip_grad": (1e-12, math.inf),
    "ema": (0, 1 - 1e-12),
    "drop_path": (0, 1 - 1e-12),
    "layer_decay": (1e-12, 1),
    "scales": (1, math.inf),
    "short_side": (1, math.inf),
    "warmup_steps": (0, math.inf),
}

RECIPES: Mapping[str, Recipe] = {name: Recipe(name=name, **given) for name, given in TABLE.items()}
"""Every recipe by its name."""


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        RecipeError: there is none of this name.
    """
    if name not in RECIPES:
        hint = did_you_mean(name, RECIPES)
        raise RecipeError(f"no recipe {name!r}; there are {', '.join(RECIPES)}{hint}")
    return RECIPES[name]
