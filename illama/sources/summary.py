"""What was found in a source, in words: images by class, files left out, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from illama.sources.source import Source

NAMED = 6
"""Most classes whose images are counted one by one."""
KINDS = 6
"""Most kinds of files that are named."""


def describe_source(source: Source) -> str:
    """Return what was found, one line each: the images by class, and the files left out."""
    return "\n".join(_lines(source))


def left_out_in_words(source: Source) -> str:
    """Return how many files of each kind are not among the images; empty if there are none."""
    if not source.left_out:
        return ""
    total = sum(each.files for each in source.left_out)
    kinds = ", ".join(
        f"{each.files:,} {each.kind} (first {each.first})" for each in source.left_out[:KINDS]
    )
    more = len(source.left_out) - KINDS
    others = f", {more} more kinds" if more > 0 else ""
    return f"{total:,} files left out: {kinds}{others}"


def _lines(source: Source) -> Iterator[str]:
    split = "" if source.split == "all" else f", split {source.split}"
    labels = "no labels" if source.labels is None else _classes(source, source.labels)
    yield f"{source.name}{split}: {len(source):,} images, {labels}"
    left_out = left_out_in_words(source)
    if left_out:
        yield f"{source.name}: {left_out}"


def _classes(source: Source, labels: NDArray[np.int64]) -> str:
    """Return the classes with their numbers of images, in short where they are many or equal."""
    numbers, counts = np.unique(labels, return_counts=True)
    names = source.classes
    if len(numbers) == 1 or counts.min() < counts.max():
        named = [
            f"{count:,} of {number if names is None else names[number]}"
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
        ]
        each = ", ".join(named)
        if len(numbers) > NAMED:
            rarest = numbers[counts.argmin()]
            fewest = rarest if names is None else names[rarest]
            each = f"{counts.min():,} to {counts.max():,} images each, fewest of class {fewest}"
        return f"{len(numbers):,} classes: {each}"
    first, last = (n if names is None else names[n] for n in (numbers[0], numbers[-1]))
    return f"{len(numbers):,} classes of {counts[0]:,} ({first} ... {last})"
