"""Sets that fit in memory: `.npz` files, the demo, scikit-learn's digits and photographs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.npyio import NpzFile

from illama.demo import SHAPES, draw
from illama.sources.source import (
    Source,
    SourceError,
    hash_arrays,
    hash_order,
    make_source,
    read_array,
)
from illama.transforms import ImageError, check_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from illama.sources.source import Images

DEMO_IMAGES = {"test": 2_000, "train": 20_000, "cue-conflict": 1_800}
SHAPES_IMAGES = {"test": 120, "train": 2_000}
DIGITS_TEST_SHARE = 0.2
PHOTOS = 30
_SMALLEST_CROP = 160


def open_npz(path: Path, name: str) -> Source:
    """Open a `.npz` file with images, optional labels and optional ids; pickles stay closed.

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
        names=_checked_ids(path, arrays, len(images)),
        labels=_checked_labels(path, arrays, len(images)),
        contents=hash_arrays(images),
        read=partial(read_array, images),
        in_memory=True,
    )


def open_demo(split: str) -> Source:
    """Draw a split of the demo: test, train, or cue-conflict (labeled by shape)."""
    _check_split("demo", split, tuple(DEMO_IMAGES))
    drawn = draw(split, DEMO_IMAGES[split])  # type: ignore[arg-type]  # one of the keys
    source = _in_memory("demo", split, range(len(drawn.images)), drawn.images, drawn.labels, SHAPES)
    if split != "cue-conflict":
        return source
    cues = np.stack((drawn.shapes, drawn.textures), axis=1)
    return replace(source, cues=cues, categories=SHAPES)


def open_demo_shapes(split: str) -> Source:
    """Draw the demo's pictures with the class of each pixel: background, or one of ten shapes."""
    _check_split("demo-shapes", split, ("test", "train"))
    drawn = draw(split, SHAPES_IMAGES[split])  # type: ignore[arg-type]  # one of the keys
    count = len(drawn.images)
    source = _in_memory("demo-shapes", split, range(count), drawn.images, None, None)
    return replace(
        source, masks=partial(read_array, drawn.masks), mask_classes=("background", *SHAPES)
    )


def open_digits(split: str) -> Source:
    """Open scikit-learn's handwritten digits, 8 x 8 grey; test is the fifth of smallest hash."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - 1.5 s that other sources need not pay

    _check_split("digits", split, ("test", "train"))
    digits = load_digits()
    grey = (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)
    order = hash_order([f"{i:05d}" for i in range(len(grey))])
    is_test = order < round(DIGITS_TEST_SHARE * len(grey))
    kept = np.flatnonzero(is_test == (split == "test"))
    images = np.repeat(grey[kept, :, :, None], 3, axis=3)
    names = tuple(str(name) for name in digits.target_names)
    return _in_memory(
        "digits", split, kept.tolist(), images, digits.target[kept].astype(np.int64), names
    )


def open_photos(_: str) -> Source:
    """Cut 30 seeded square crops from scikit-learn's two photographs: no labels, no splits."""
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 - as above

    photographs = load_sample_images().images
    random = np.random.Generator(np.random.PCG64(0))
    crops = [_crop(photographs[i % len(photographs)], random) for i in range(PHOTOS)]
    return _in_memory("photos", "all", range(PHOTOS), crops, None, None)


def _crop(photograph: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    height, width = photograph.shape[:2]
    side = int(random.integers(_SMALLEST_CROP, min(height, width), endpoint=True))
    top, left = (int(random.integers(length - side + 1)) for length in (height, width))
    return np.ascontiguousarray(photograph[top : top + side, left : left + side])


def _in_memory(
    name: str,
    split: str,
    numbers: Sequence[int],
    images: Images,
    labels: NDArray[np.int64] | None,
    classes: Sequence[str] | None,
) -> Source:
    return make_source(
        name=name,
        split=split,
        names=[f"{name if split == 'all' else split}/{number:05d}" for number in numbers],
        labels=labels,
        classes=classes,
        contents=hash_arrays(images),
        read=partial(read_array, images),
        in_memory=True,
    )


def _check_split(name: str, split: str, splits: Sequence[str]) -> None:
    if split not in splits:
        raise SourceError(f"{name} has no split {split!r}; it has {', '.join(splits)}")


def _checked_images(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    images = arrays.get("images")
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:  # noqa: PLR2004 - the documented shape
        found = "nothing" if images is None else f"{images.dtype} {list(images.shape)}"
        raise SourceError(f"{path}: 'images' uint8 [image, row, column, 3] expected, found {found}")
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
            f"{path}: 'labels' whole numbers [{images}] expected, found {labels.dtype}"
            f" {list(labels.shape)}"
        )
    return labels.astype(np.int64)


def _checked_ids(path: Path, arrays: Mapping[str, NDArray[np.generic]], images: int) -> list[str]:
    ids = arrays.get("ids")
    if ids is None:
        return [f"{i:05d}" for i in range(images)]
    if ids.dtype.kind not in "Uiu" or ids.shape != (images,):
        raise SourceError(f"{path}: 'ids' strings [{images}] expected, found {ids.dtype}")
    return [str(each) for each in ids.tolist()]
