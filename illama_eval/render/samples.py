"""The sample images of a run with the class token's attention in them, read from samples.npz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from illama_eval.results import ResultError, load_arrays

Images = NDArray[np.uint8]

_FILE = "samples.npz"


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
    path = directory / _FILE
    if not path.exists():
        return None
    try:
        return _checked(load_arrays(path))
    except Exception as problem:  # a damaged file raises almost anything
        raise ResultError(
            f"{path}: no readable samples ({problem}); delete it to go on"
        ) from problem


def _checked(arrays: dict[str, NDArray[Any]]) -> Samples:
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
