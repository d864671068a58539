"""Checkpoints as arguments: a path, with settings for this one alone; imported without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from illama.config import Masking
from illama.exits import UsageError
from illama.preprocessing import TransformOptions
from illama.suggestions import did_you_mean

LOADED = ("soft_mask", "heads", "masking", "image_size", "key")
"""Settings of loading, also options for all checkpoints; `ema`, a flag, is the other."""
TRANSFORM = ("mean", "std", "crop", "interpolation")
"""Settings of the evaluation transform, also options."""
_SETTINGS = re.compile(r"(?P<path>.+?):(?P<settings>[a-z][a-z_-]*=.*)")
_NEXT = re.compile(r",(?=[a-z][a-z_-]*=)")


@dataclass(frozen=True, kw_only=True)
class CheckpointArgument:
    """One checkpoint of a command line."""

    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of `read_checkpoint` for this checkpoint alone, without the transform's."""
    transform: Mapping[str, str] = field(default_factory=dict)
    """Words of the evaluation transform for this checkpoint alone."""


def parse_checkpoint(word: Path) -> CheckpointArgument:
    """Return the checkpoint of an argument such as `b.pth:soft_mask=1,heads=6`.

    A file of the whole name comes first. Settings are separated by commas.

    Raises:
        UsageError: a setting is unknown, or its value is not what it takes.
    """
    match = _SETTINGS.fullmatch(str(word))
    if match is None or word.exists():
        return CheckpointArgument(path=word)
    settings: dict[str, Any] = {}
    transform: dict[str, str] = {}
    for pair in _NEXT.split(match["settings"]):
        name, _, value = pair.partition("=")
        name = name.replace("-", "_")
        if name in TRANSFORM:
            transform[name] = value
        elif name in _VALUES:
            settings[name] = _read(name, value)
        else:
            every = [*_VALUES, *TRANSFORM]
            hint = did_you_mean(name, every) or f"; there are {', '.join(every)}"
            raise UsageError(f"{word}: no setting {name!r}{hint}")
    return CheckpointArgument(path=Path(match["path"]), settings=settings, transform=transform)


def transform_options(*given: Mapping[str, str | None]) -> TransformOptions:
    """Return the transform's options of several groups of words; later ones come first.

    Raises:
        UsageError: a word is not what its option takes.
    """
    words: dict[str, str] = {}
    for each in given:
        words.update({name: value for name, value in each.items() if value is not None})
    return TransformOptions.parse(**words)


def parse_all(words: Sequence[Path] | None) -> list[CheckpointArgument]:
    """Return the checkpoints of a command line.

    Raises:
        UsageError: a setting is unknown, or its value is not what it takes.
    """
    return [parse_checkpoint(word) for word in words or ()]


def _read(name: str, value: str) -> Any:
    try:
        return _VALUES[name](value)
    except ValueError:
        raise UsageError(f"{name}={value}: {_TAKES[name]}") from None


def _whole(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(value)
    return number


def _share(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(value)
    return number


def _masking(value: str) -> Masking:
    known: tuple[Masking, ...] = get_args(Masking)
    return known[known.index(value)]


def _flag(value: str) -> bool:
    if value not in {"0", "1"}:
        raise ValueError(value)
    return value == "1"


_VALUES: Mapping[str, Callable[[str], Any]] = {
    "soft_mask": _share,
    "heads": _whole,
    "masking": _masking,
    "image_size": _whole,
    "ema": _flag,
    "key": str,
}
_TAKES: Mapping[str, str] = {
    "soft_mask": "give a number from 0 to 1",
    "heads": "give a positive whole number",
    "masking": f"give {', '.join(get_args(Masking))}",
    "image_size": "give a positive whole number of pixels",
    "ema": "give 0 or 1",
}
