"""Options of the evaluation transform as a command line has them; imported without torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from illama.exits import UsageError

Interpolation = Literal["bicubic", "bilinear"]
Preprocess = Literal["model", "paper-calibration"]
"""Evaluation transform: the model's own, or the paper's bilinear one for calibration."""
Channels = tuple[float, float, float]

WHOLE = "none"
"""Value of `crop` that squeezes the whole image into the square."""
_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class TransformOptions:
    """What of a transform is given; None is what the checkpoint has, or what its size implies."""

    mean: Channels | None = None
    """Subtracted from the red, green and blue channels in 0..1."""
    std: Channels | None = None
    """What the channels are divided by."""
    crop: float | Literal["none"] | None = None
    """Side of the centre crop over the short side, in (0, 1]; or WHOLE."""
    interpolation: Interpolation | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that are given, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def parse(
        cls,
        mean: str | None = None,
        std: str | None = None,
        crop: str | None = None,
        interpolation: str | None = None,
    ) -> TransformOptions:
        """Return the options that the words of a command line mean.

        Raises:
            UsageError: a word is not what the option takes.
        """
        return cls(
            mean=None if mean is None else _channels("--mean", mean, least=0.0),
            std=None if std is None else _channels("--std", std, least=1e-3),
            crop=None if crop is None else _crop(crop),
            interpolation=None if interpolation is None else _interpolation(interpolation),
        )


def _channels(option: str, words: str, *, least: float) -> Channels:
    """Return three numbers; one alone is for all three channels."""
    parts = words.replace("/", ",").split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise UsageError(
            f"{option} {words}: give three numbers such as 0.5,0.5,0.5, or one for all channels"
        ) from None
    if len(numbers) == 1:
        numbers *= _CHANNELS
    if len(numbers) != _CHANNELS:
        raise UsageError(f"{option} {words}: gives {len(numbers)} numbers; give three, or one")
    if not all(least <= number <= 1 for number in numbers):
        raise UsageError(
            f"{option} {words}: is for channels from 0 to 1, not 0 to 255; divide by 255"
        )
    red, green, blue = numbers
    return red, green, blue


def _crop(word: str) -> float | Literal["none"]:
    if word == WHOLE:
        return "none"
    try:
        ratio = float(word)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio <= 1:
        raise UsageError(
            f"--crop {word}: give the side of the crop over the short side, above 0 and at most 1 "
            f"such as 0.875, or {WHOLE} for the whole image"
        )
    return ratio


def _interpolation(word: str) -> Interpolation:
    known: tuple[Interpolation, ...] = get_args(Interpolation)
    if word not in known:
        raise UsageError(f"--interpolation {word}: give {' or '.join(known)}")
    return known[known.index(word)]
