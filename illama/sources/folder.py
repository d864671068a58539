"""Folders of images: one directory per class, or flat, with or without a CSV of labels."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from illama.sources.source import Source, SourceError, make_source
from illama.sources.splits import IMAGE_SUFFIXES, is_image, list_folder
from illama.sources.tables import apply_labels
from illama.transforms import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


def open_folder(root: Path, name: str, split: str, labels: Path | None) -> Source:
    """Open a folder of images; none is read yet, and the fingerprint uses byte lengths.

    Raises:
        SourceError: no images, an empty class, images next to the classes, or unfit labels.
    """
    scanned = sorted(_scan(root))
    names = [path for path, _ in scanned]
    if not names:
        raise SourceError(f"{root} has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    kept = list(range(len(names)))
    numbers: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    if labels is not None:
        kept, numbers, classes = apply_labels(labels, names)
    elif any("/" in path for path in names):
        numbers, classes = number_classes(names, str(root))
        _check_no_empty_class(root, classes)
    files = tuple(names[i] for i in kept)
    return make_source(
        name=name,
        split=split,
        names=unique_ids(files),
        labels=numbers,
        classes=classes,
        contents=[scanned[i][1] for i in kept],
        read=partial(_read_file, root, files),
    )


def number_classes(names: Sequence[str], origin: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number images by the first directory of their path, in sorted order.

    Raises:
        SourceError: an image is next to the class directories, or these are numbers whose sorted
            order is not their numeric one, so that the labels are ambiguous.
    """
    stray = [name for name in names if "/" not in name]
    if stray:
        raise SourceError(
            f"{origin}: {len(stray)} images are next to the class folders (first: {stray[0]!r});"
            " move them into a class, or elsewhere"
        )
    of_image = [name.split("/", 1)[0] for name in names]
    classes = tuple(sorted(set(of_image)))
    if all(each.isdecimal() for each in classes) and list(classes) != sorted(classes, key=int):
        raise SourceError(
            f"{origin}: classes {classes[0]!r}, {classes[1]!r}, ... do not sort as numbers; pad the"
            " folders' names with zeros, or give the labels as a CSV"
        )
    index_of = {each: index for index, each in enumerate(classes)}
    return np.array([index_of[each] for each in of_image], np.int64), classes


def unique_ids(names: Sequence[str]) -> list[str]:
    """Drop the extensions, except where two names would become equal."""
    stems = [os.path.splitext(name)[0] for name in names]  # noqa: PTH122 - pathlib is 20x slower
    count = Counter(stems)
    return [stem if count[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]


def _scan(folder: Path, prefix: str = "", above: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """Yield (path inside the set, byte length) of the images below `folder`."""
    here = os.path.realpath(folder)
    if here in above:
        return  # a link to a folder above it
    for entry in list_folder(folder):
        if entry.is_dir():
            yield from _scan(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
        elif is_image(entry.name) and entry.is_file():
            yield prefix + entry.name, entry.stat().st_size
        elif is_image(entry.name) and entry.is_symlink():
            yield prefix + entry.name, 0  # a broken link is an unreadable image, not no image


def _check_no_empty_class(root: Path, classes: Sequence[str]) -> None:
    folders = {entry.name for entry in list_folder(root) if entry.is_dir()}
    empty = sorted(folders - set(classes))
    if empty:
        raise SourceError(
            f"{root}: {len(empty)} of {len(folders)} class folders have no images (first:"
            f" {empty[0]!r}), which would shift the numbers of the others; fill or remove them"
        )


def _read_file(root: Path, names: Sequence[str], position: int) -> NDArray[np.uint8]:
    return decode(root / names[position])
