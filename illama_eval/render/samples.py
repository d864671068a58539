"""The sample images kept beside a run, with the attention in them or with their masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from illama_eval.results import ResultError, load_arrays

Images = NDArray[np.uint8]
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Segments: TypeAlias = Sequence[Arrays]
"""Image [row, column, 3], mask and predicted [row, column] of each sample."""
Kept = TypeVar("Kept")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Sample images and the class token's attention in them, as stored."""

    ids: Sequence[str]
    images: Images
    """[sample, row, column, 3]"""
    attention: Images
    """[sample, layer, row, column] on the patch grid; 255 is the largest value of each map."""
    labels: Sequence[int] | None = None
    predictions: Sequence[int] | None = None


def read_samples(directory: Path) -> Samples | None:
    """Return what samples.npz holds, or None where there is none.

    Raises:
        ResultError: the file is damaged, or not a file of samples.
    """
    return _read(directory / "samples.npz", _check_samples)


def read_segments(directory: Path) -> Segments | None:
    """Return the sample images of a run with their masks, or None where none are kept.

    Raises:
        ResultError: the file is damaged.
    """
    return _read(directory / "segments.npz", _check_segments) or None


def _read(path: Path, check: Callable[[Arrays], Kept]) -> Kept | None:
    """Return what a file of arrays holds, checked; None where there is no file.

    Raises:
        ResultError: the file is damaged, or its arrays do not fit.
    """
    if not path.exists():
        return None
    try:
        return check(load_arrays(path))
    except Exception as problem:  # a damaged file raises almost anything
        raise ResultError(
            f"{path}: no readable {path.stem} ({problem}); delete it to go on"
        ) from problem


def _check_samples(arrays: Arrays) -> Samples:
    images, attention = arrays["images"], arrays["attention"]
    ids = [str(name) for name in arrays["ids"]]
    sizes = {len(array) for array in arrays.values()}
    if (images.ndim, attention.ndim, sizes) != (4, 4, {len(ids)}) or images.shape[-1] != 3:  # noqa: PLR2004 - RGB
        raise ValueError("arrays of unfitting shapes")
    if images.dtype != np.uint8 or attention.dtype != np.uint8 or 0 in images.shape:
        raise ValueError("images or attention that are not uint8")
    known = {
        name: arrays[name].astype(int).tolist()
        for name in ("labels", "predictions")
        if name in arrays
    }
    return Samples(ids=ids, images=images, attention=attention, **known)


def _check_segments(arrays: Arrays) -> Segments:
    count = sum(name.startswith("image") for name in arrays)
    return [_check_segment(arrays, number) for number in range(count)]


def _check_segment(arrays: Arrays, number: int) -> Arrays:
    """Return one image [row, column, 3] with its two masks [row, column], all bytes."""
    sample = {part: arrays[f"{part}{number}"] for part in ("image", "mask", "predicted")}
    size = sample["mask"].shape
    shapes = {"image": (*size, 3), "mask": size, "predicted": size}
    for part, array in sample.items():
        if len(size) != 2 or array.shape != shapes[part] or array.dtype != np.uint8:  # noqa: PLR2004 - rows and columns
            raise ValueError(f"{part}{number} is {array.dtype} {list(array.shape)}")
    return sample
