"""Numbers for classes of which a set only has the names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from illama.sources.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WRAPPER = "images"
"""A folder of this name, alone in a set, has the images and is not a class."""
_INTEGER = re.compile(r"[+-]?\d+(\.0*)?")
_LONGEST_NUMBER = 18
"""Characters of a label that surely fit 64 bits; an index of a class has far fewer."""
_MOST_SPLITS = 6


class Numbered(NamedTuple):
    """Labels of images, and where they are from."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...] | None
    """The names of the labels 0, 1, ...; None: the labels are given as numbers."""
    order: str = ""
    """How the classes were numbered, such as `alphabetically`; empty where the numbers are given
    by the set."""
    further: NDArray[np.int64] | None = None
    """Further true classes of each image, [image, most], -1 where there are no more."""


def number_folders(names: Sequence[str], origin: str) -> Numbered:
    """Number images by the first directory of their path: in the order of numbers, or sorted.

    Raises:
        SourceError: an image is next to the class directories, these look like splits, or two of
            them are the same number.
    """
    stray = [name for name in names if "/" not in name]
    if stray:
        raise SourceError(
            f"{origin}: {len(stray)} images are next to the class folders (first: {stray[0]!r});"
            " move them into a class, or elsewhere"
        )
    _check_no_splits(names, origin)
    of_image = [name.split("/", 1)[0] for name in names]
    classes, order = _order_classes(set(of_image), origin)
    index_of = {each: index for index, each in enumerate(classes)}
    return Numbered(np.array([index_of[each] for each in of_image], np.int64), classes, order)


def number_values(values: Sequence[str], origin: str) -> Numbered:
    """Number labels of a table: whole numbers are labels, other texts are names in sorted order.

    Raises:
        SourceError: some are numbers and some are not, or some are not whole or too large.
    """
    if all(_INTEGER.fullmatch(value) for value in values):
        return Numbered(_whole(values, origin), None)
    numbers = [value for value in values if _is_number(value)]
    if numbers:
        odd = next(value for value in values if not _INTEGER.fullmatch(value))
        raise SourceError(
            f"{origin}: label {odd!r} is not a whole number, and {numbers[0]!r} is a number; give"
            " each image the index of its class, or each the name"
        )
    classes = tuple(sorted(set(values)))
    index_of = {name: index for index, name in enumerate(classes)}
    labels = np.array([index_of[value] for value in values], np.int64)
    return Numbered(labels, classes, "alphabetically")


def _whole(values: Sequence[str], origin: str) -> NDArray[np.int64]:
    """Return the whole numbers that these texts are, int64 [image]."""
    digits = [value.partition(".")[0] for value in values]
    large = next((each for each in digits if len(each) > _LONGEST_NUMBER), None)
    if large is not None:
        raise SourceError(f"{origin}: label {large} is no index of a class; count classes from 0")
    return np.array([int(each) for each in digits], np.int64)


def _order_classes(names: set[str], origin: str) -> tuple[tuple[str, ...], str]:
    """Return the names of folders in their order, and how they were ordered."""
    if not all(name.isdecimal() for name in names):
        return tuple(sorted(names)), "alphabetically"
    classes = tuple(sorted(names, key=lambda name: (int(name), name)))
    numbers = [int(name) for name in classes]
    if len(set(numbers)) < len(numbers):
        twice = next(n for n in numbers if numbers.count(n) > 1)
        raise SourceError(
            f"{origin}: two class folders are the number {twice}; join or rename them"
        )
    known = numbers == list(range(len(numbers)))
    return classes, "" if known else "in the order of their numbers"


def _check_no_splits(names: Sequence[str], origin: str) -> None:
    """Refuse a few folders that all contain the same folders: splits, each with the classes."""
    inside: dict[str, set[str]] = {}
    for name in names:
        top, *deeper = name.split("/")
        inside.setdefault(top, set()).add(deeper[0] if len(deeper) > 1 else "")
    first = next(iter(inside.values()))
    few = 1 < len(inside) <= _MOST_SPLITS and len(first) > 1 and "" not in first
    if few and all(each == first for each in inside.values()):
        raise SourceError(
            f"{origin}: {', '.join(sorted(inside))} all contain the same {len(first)} folders"
            f" ({', '.join(sorted(first)[:3])}, ...), so they look like splits, not classes; give"
            " the path of one, or name them train and test"
        )


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
