"""Training recipes: what is trained, on what, for how long, and by which schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from illama.training.recipes import TABLE


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
    start: str | None = None
    """The checkpoint whose weights are trained on; None: fresh weights. Positions are resized, and
    a head of another number of classes is drawn anew."""
    size: str
    """Key of `illama.SIZES`."""
    step: str = "soft-mask"
    """Key of `illama.STEPS`."""
    task: Literal["classification", "segmentation"] = "classification"
    """What is learned: a class of each image, or of each pixel."""
    image_size: int
    """Side of the square input in pixels."""
    classes: int
    """Outputs of the head."""
    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images in one optimizer step, over all processes; what is left of an epoch is skipped."""
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
    """The same in optimizer steps; None: as `warmup_epochs` says."""
    weight_decay: float = 0.05
    """Of the matrices; norms, biases, positions and class token have none."""
    weight_decay_end: float | None = None
    """Where a cosine takes the weight decay; None: it stays."""
    clip_grad: float | None = None
    """Largest norm of all gradients together; None: any."""
    ema: float | None = None
    """Decay of a moving average of the weights, kept beside them; None: no average."""
    soft_mask: float = 1.0
    """Where the soft mask starts, 0 to 1."""
    mask_schedule: Literal["constant", "linear"] = "constant"
    """How the soft mask goes until it is cut off."""
    cutoff_soft: int
    """Epoch from which the soft mask is 0."""
    keep_soft_mask: bool = False
    """Allow a soft mask that is not 0 in the last step: the weights are then to be run with it."""
    drop_path: float = 0.0
    """Share of images for which the last block is skipped; less in the blocks before, linearly."""
    drop_mode: Literal["standard", "early", "late"] = "standard"
    """When paths are dropped: always, before `drop_cutoff`, or from it on (Liu et al. 2023)."""
    drop_schedule: Literal["constant", "linear"] = "constant"
    """How `drop_path` goes in mode early: it stays, or falls to 0 at `drop_cutoff`."""
    drop_cutoff: int = 0
    """Epoch that ends mode early and starts mode late."""
    label_smoothing: float = 0.1
    """Share of the target spread evenly over all classes."""
    mixup: float = 0.0
    """Of the beta distribution by which images are blended (Zhang et al. 2018); 0: never."""
    cutmix: float = 0.0
    """Of the beta distribution by which rectangles are swapped (Yun et al. 2019); 0: never."""
    mixup_prob: float = 1.0
    """Probability that a micro-batch is mixed at all."""
    switch_prob: float = 0.5
    """Probability of cutmix where both are on."""
    crop: Literal["none", "resized"] = "none"
    """What is seen of an image: as in the evaluation, or a random part of it, resized."""
    crop_padding: int = 0
    """Pixels by which an image is shifted at most, to each side; what comes in is black."""
    crop_scale: float = 0.08
    """Smallest share of the image that a resized crop keeps."""
    flip: float = 0.0
    """Probability of a mirror image."""
    rand_augment: str | None = None
    """RandAugment (Cubuk et al. 2020), as timm writes it: magnitude m, its spread mstd, inc1."""
    color_jitter: float = 0.0
    """Largest change of brightness, contrast and saturation; without RandAugment only."""
    short_side: int | None = None
    """Segmentation: the short side that images are brought to before their scale is varied; None:
    they are taken as they are."""
    scales: float = 1.0
    """Segmentation: how much larger or smaller a scale can be drawn; 2 is half to double."""
    photometric: bool = False
    """Segmentation: vary brightness, contrast, saturation and hue, each half of the time."""
    erasing: float = 0.0
    """Probability that a rectangle is replaced by noise (Zhong et al. 2020)."""
    repeats: int = 1
    """Times that an image is drawn in an epoch, which meets as many fewer (Hoffer et al. 2020)."""
    shuffle_buffer: int = 0
    """Images among which the stored order is shuffled, for shards that are read as streams; 0: all
    of them."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the matrix products in training; weights and evaluation are fp32 always."""
    recompute: bool = False
    """Compute the inside of blocks again in the backward pass instead of keeping it."""
    seed: int = 0
    """Of initial weights, order and augmentation."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RecipeError(f"recipe {self.name}: {name}={value} is not in {low}..{high}")
        for name in ("warmup_epochs", "cutoff_soft", "drop_cutoff"):
            if getattr(self, name) > self.epochs:
                raise RecipeError(
                    f"recipe {self.name}: {name}={getattr(self, name)} lies beyond the last of "
                    f"{self.epochs} epochs; lower it"
                )

    @property
    def mixes(self) -> bool:
        """Whether images are ever blended, so that targets are shares of classes."""
        return self.mixup_prob > 0 and max(self.mixup, self.cutmix) > 0

    def override(self, assignments: Iterable[str]) -> Recipe:
        """Return the recipe with fields replaced, each written `field=value`.

        Raises:
            RecipeError: no such field, or a value of another type or out of its range.
        """
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
    """Return what `true` or `false` means."""
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
    """Return a recipe of the table.

    Raises:
        RecipeError: there is none of this name.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
