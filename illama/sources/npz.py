"""Sources in memory: `.npz` files, and any arrays of images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.npyio import NpzFile

from illama.sources.contents import hash_pixels
from illama.sources.source import Source, SourceError, make_source, read_array
from illama.transforms import ImageError, check_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from illama.sources.source import Images


def open_npz(path: Path, name: str) -> Source:
    """Open a `.npz` file with images, optional labels and optional ids; pickles are not loaded.

    `images` uint8 [image, row, column, 3], `labels` whole numbers [image] in the head's numbering,
    `ids` strings [image] (default: 00000, 00001, ...).

    Raises:
        SourceError: unreadable, an array missing or of another type or shape.
    """
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ("images", "labels", "ids") if key in archive}
    except Exception as error:  # noqa: BLE001 - a damaged file raises almost anything
        raise SourceError(f"{path} cannot be read as plain arrays ({error})") from None
    images = _checked_images(path, arrays)
    return make_source(
        name=name,
        split="all",
        names=ids_of(path, arrays, len(images), digits=5),
        labels=_checked_labels(path, arrays, len(images)),
        contents=hash_pixels(images),
        read=partial(read_array, images),
        in_memory=True,
    )


def ids_of(
    path: Path, arrays: Mapping[str, NDArray[np.generic]], images: int, *, digits: int
) -> list[str]:
    """Return `ids`, strings or whole numbers [image]; without them, numbers of so many digits.

    Raises:
        SourceError: another type or shape.
    """
    ids = arrays.get("ids")
    if ids is None:
        return [f"{i:0{digits}d}" for i in range(images)]
    if ids.dtype.kind not in "Uiu" or ids.shape != (images,):
        raise SourceError(
            f"{path}: expected 'ids' strings [{images}], found {ids.dtype} {list(ids.shape)}"
        )
    return [str(each) for each in ids.tolist()]


def in_memory_source(
    name: str,
    split: str,
    numbers: Sequence[int],
    images: Images,
    labels: NDArray[np.int64] | None,
    classes: Sequence[str] | None,
) -> Source:
    """Return a source of images that need no file; ids are made of split (or name) and number."""
    return make_source(
        name=name,
        split=split,
        names=[f"{name if split == 'all' else split}/{number:05d}" for number in numbers],
        labels=labels,
        classes=classes,
        contents=hash_pixels(images),
        read=partial(read_array, images),
        in_memory=True,
    )


def _checked_images(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    images = arrays.get("images")
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:  # noqa: PLR2004 - the documented shape
        found = "nothing" if images is None else f"{images.dtype} {list(images.shape)}"
        raise SourceError(f"{path}: expected 'images' uint8 [image, row, column, 3], found {found}")
    try:
        check_size(images.shape[2], images.shape[1])
    except ImageError as error:
        raise SourceError(f"{path}: {error}") from None
    return images.astype(np.uint8, copy=False)


def _checked_labels(
    path: Path, arrays: Mapping[str, NDArray[np.generic]], images: int
) -> NDArray[np.int64] | None:
    labels = arrays.get("labels")
    if labels is None:
        return None
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise SourceError(
            f"{path}: expected 'labels' whole numbers [{images}], found {labels.dtype}"
            f" {list(labels.shape)}"
        )
    return labels.astype(np.int64)
