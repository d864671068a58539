"""What a file does not say and is assumed, and what it says and an option overrides."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from illama.checkpoint.foreign import TIMM
from illama.checkpoint.formats import Found, implied_soft_mask, own_heads
from illama.checkpoint.heads import published_heads
from illama.config import Config
from illama.preprocessing import Channels, TransformOptions
from illama.transforms import IMAGENET_MEAN, IMAGENET_STD, Transform, evaluation_transform

HALF: Channels = (0.5, 0.5, 0.5)
"""Mean and std of the released code where its arguments say not to take ImageNet's."""
WHOLLY = frozenset(("mean", "crop"))
"""Both parts of a transform: the colours, by their mean, and the size, by its crop."""
_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """One thing that a file does not say, as it is taken."""

    what: str
    """A noun, such as `heads`."""
    value: str
    """As it is taken, in words: `3 heads`."""
    because: str
    """What it is taken from: `width 96`."""
    option: str
    """What changes it: `--heads`, or two options joined by `and`."""

    def __str__(self) -> str:
        verb = "change" if " and " in self.option else "changes"
        return f"{self.value}, by {self.because}; {self.option} {verb} it"

    def to_dict(self) -> dict[str, str]:
        """Return the fields and the sentence, for a header."""
        return {**asdict(self), "text": str(self)}


@dataclass(frozen=True, kw_only=True)
class Override:
    """One thing that a file says, and that an option changes for this run."""

    what: str
    """The option's name in Python, such as `soft_mask`."""
    value: str
    """As it is run."""
    own: str
    """As the file has it."""

    def __str__(self) -> str:
        return f"{self.what.replace('_', ' ')} {self.value} by option, not its own {self.own}"

    def to_dict(self) -> dict[str, str]:
        """Return the fields and the sentence, for a header."""
        return {**asdict(self), "text": str(self)}


def remembered_assumptions(found: Found, given: Collection[str]) -> Iterator[Assumption]:
    """Yield what was assumed when a file was converted, without what the options say now.

    `given` are the options, such as `--heads`.
    """
    for each in found.assumptions:
        remembered = Assumption(**each)
        if not set(remembered.option.split(" and ")) & set(given):
            yield remembered


def architecture_assumptions(
    found: Found, config: Config, heads: int | None
) -> Iterator[Assumption]:
    """Yield what of the architecture a file without our own record does not say."""
    if found.config is not None:
        return
    if heads is None and own_heads(found) is None:
        _, because = published_heads(found.family, config.width, config.depth)
        yield Assumption(
            what="heads", value=f"{config.heads} heads", because=because, option="--heads"
        )
    if config.masking == "multiplicative":
        yield Assumption(
            what="masking",
            value="multiplicative masking, class token last",
            because="the names of the weights",
            option="--masking",
        )
    else:
        another = TIMM.removeprefix("measure it as ")
        known = {"pooling": "the class token alone feeds the head", "activation": "exact GELU"}
        known["norms"] = "LayerNorm of epsilon 1e-6, none before the first block"
        for what, value in known.items():
            yield Assumption(
                what=what, value=value, because="the names of the weights", option=another
            )


def overrides_of(
    found: Found, *, heads: int | None, soft_mask: float | None, released: bool
) -> Iterator[Override]:
    """Yield what a file says of how it is run and an option changes."""
    stated = own_heads(found)
    if heads is not None and stated is not None and heads != stated:
        yield Override(what="heads", value=str(heads), own=str(stated))
    own = stated_soft_mask(found, released=released) or 0.0
    if soft_mask is not None and soft_mask != own:
        yield Override(what="soft_mask", value=f"{soft_mask:g}", own=f"{own:g}")


def stated_soft_mask(found: Found, *, released: bool) -> float | None:
    """Return the soft mask that a file's own record or arguments give; None: they give none."""
    if found.soft_mask is not None:
        return found.soft_mask
    if released:
        return 0.0
    return implied_soft_mask(found) if found.args.get("mask_mode") is not None else None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The transform of a checkpoint, and where it comes from."""

    transform: Transform
    assumptions: tuple[Assumption, ...]
    overrides: tuple[Override, ...]


def prepare_transform(
    found: Found, image_size: int, options: TransformOptions, *, released: bool
) -> Prepared:
    """Return the transform that is stored, given, in the arguments or implied, in this order."""
    stored = found.transform
    own, stated = evaluation_transform(image_size), WHOLLY
    if stored is not None:
        own = Transform.from_dict(stored, image_size)
    elif not released:
        own, stated = _by_arguments(found.args, own)
    chosen = own.with_options(options)
    given = options.given()
    return Prepared(
        transform=chosen,
        assumptions=tuple(_transform_assumptions(chosen, stated, given)),
        overrides=tuple(transform_overrides(own, chosen, stated)),
    )


def _by_arguments(args: Mapping[str, Any], own: Transform) -> tuple[Transform, frozenset[str]]:
    """Return the transform with what the arguments of a training say, and which parts they say."""
    stated = set()
    mean, std = (_channels(args.get(name)) for name in ("mean", "std"))
    imagenet = args.get("imagenet_default_mean_and_std")
    if mean and std:
        own, stated = replace(own, mean=mean, std=std), {"mean"}
    elif isinstance(imagenet, bool):
        colours = (IMAGENET_MEAN, IMAGENET_STD) if imagenet else (HALF, HALF)
        own, stated = replace(own, mean=colours[0], std=colours[1]), {"mean"}
    ratio = args.get("crop_pct")
    if isinstance(ratio, float) and 0 < ratio <= 1 and own.resize == "short-side":
        own = replace(own, crop_ratio=ratio)
        stated.add("crop")
    return own, frozenset(stated)


def _channels(value: object) -> Channels | None:
    """Return three numbers, if it is a list of them."""
    if not isinstance(value, list) or len(value) != _CHANNELS:
        return None
    if not all(isinstance(each, int | float) for each in value):
        return None
    red, green, blue = map(float, value)
    return red, green, blue


def _transform_assumptions(
    transform: Transform, stated: frozenset[str], given: Mapping[str, Any]
) -> Iterator[Assumption]:
    """Yield what of the transform neither the file nor the options say."""
    colours = [name for name in ("mean", "std") if name not in given]
    if "mean" not in stated and colours:
        yield Assumption(
            what="normalization",
            value=" and ".join(f"{name} {_numbers(getattr(transform, name))}" for name in colours),
            because="ImageNet's convention",
            option=" and ".join(f"--{name}" for name in colours),
        )
    sizing = [name for name in ("crop", "interpolation") if name not in given]
    if "crop" not in stated and sizing:
        words = {"crop": _crop(transform), "interpolation": transform.interpolation}
        yield Assumption(
            what="resizing",
            value=", ".join(words[name] for name in sizing),
            because=f"image size {transform.image_size}",
            option=" and ".join(f"--{name}" for name in sizing),
        )


def transform_overrides(
    own: Transform, chosen: Transform, stated: frozenset[str] = WHOLLY
) -> Iterator[Override]:
    """Yield what of the stated parts of a transform was changed."""
    parts = {
        "mean": ("mean", _numbers(chosen.mean), _numbers(own.mean)),
        "std": ("mean", _numbers(chosen.std), _numbers(own.std)),
        "crop": ("crop", _crop(chosen), _crop(own)),
        "interpolation": ("crop", chosen.interpolation, own.interpolation),
    }
    for what, (part, value, before) in parts.items():
        if part in stated and value != before:
            yield Override(what=what, value=value, own=before)


def _crop(transform: Transform) -> str:
    size = transform.image_size
    if transform.resize != "short-side":
        return f"the whole image at {size} px"
    return f"centre crop of {size} from {int(size / transform.crop_ratio)} px"


def _numbers(values: Channels) -> str:
    return " ".join(f"{value:g}" for value in values)
