"""ADE20K (Zhou et al. 2017) in its release of 150 classes, and folders with the same layout."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from illama.segmentation_metrics import IGNORED
from illama.sources.contents import ContentHashes, hash_file
from illama.sources.listing import LeftOutFiles, is_image, list_everything
from illama.sources.source import Source, SourceError, make_source
from illama.transforms import ImageError, check_size, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CLASSES = 150
FOLDERS = {"test": "validation", "train": "training"}
"""The release's folder of each split."""


def find_ade20k(path: Path) -> bool:
    """Return whether a folder has the layout of ADE20K."""
    return any(
        all((path / kind / folder).is_dir() for kind in ("images", "annotations"))
        for folder in FOLDERS.values()
    )


def open_ade20k(root: Path, split: str) -> Source:
    """Open a split; masks are read with the images, not before.

    Raises:
        SourceError: the split is missing, or an image has no mask.
    """
    folder = FOLDERS.get(split)
    images, masks = (root / kind / (folder or split) for kind in ("images", "annotations"))
    if folder is None or not images.is_dir() or not masks.is_dir():
        raise SourceError(f"{root}: has no split {split!r}; it needs {images} and {masks}")
    listed = sorted(entry.name for entry in list_everything(images))
    files = [name for name in listed if is_image(name)]
    left_out = LeftOutFiles()
    for name in listed:
        if not is_image(name):
            left_out.add(name)
    missing = [name for name in files if not (masks / _mask_of(name)).is_file()]
    if missing:
        raise SourceError(
            f"{masks}: {len(missing)} of {len(files)} images have no mask (first:"
            f" {_mask_of(missing[0])!r}); add them, or move the images away"
        )
    source = make_source(
        name=root.resolve().name,
        split=split,
        names=[f"{folder}/{name.rpartition('.')[0]}" for name in files],
        labels=None,
        contents=ContentHashes(partial(_hash_pair, images, masks, files)),
        read=partial(_read_image, images, files),
        left_out=left_out.kinds(),
    )
    names = tuple(str(number) for number in range(1, CLASSES + 1))
    return replace(source, masks=partial(_read_mask, masks, files), mask_classes=names)


def reduce_zero_label(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return labels 1 to 150 as classes 0 to 149, and 0 as ignored; apply it once only.

    Raises:
        ImageError: a label above 150.
    """
    if mask.max(initial=0) > CLASSES:
        raise ImageError(f"label {mask.max()} is above {CLASSES}; masks contain 0 to {CLASSES}")
    return np.where(mask == 0, IGNORED, mask - 1).astype(np.uint8)


def _labels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the label of each pixel of a mask."""
    if image.mode not in {"L", "P"}:
        raise ImageError(f"mode {image.mode}; a mask has one label per pixel (L)")
    return np.asarray(image)


def _mask_of(name: str) -> str:
    return f"{name.rpartition('.')[0]}.png"


def _hash_pair(images: Path, masks: Path, files: Sequence[str], position: int) -> str:
    name = files[position]
    both = hash_file(images / name), hash_file(masks / _mask_of(name))
    return "-".join(both) if all(both) else ""


def _read_image(folder: Path, files: Sequence[str], position: int) -> NDArray[np.uint8]:
    return decode(folder / files[position])


def _read_mask(folder: Path, files: Sequence[str], position: int) -> NDArray[np.uint8]:
    path = folder / _mask_of(files[position])
    try:
        with Image.open(path, formats=["PNG"]) as image:
            check_size(*image.size)
            return reduce_zero_label(_labels(image))
    except ImageError as problem:
        raise ImageError(f"{path}: {problem}") from None
    except Exception as problem:  # noqa: BLE001 - a damaged file makes decoders raise almost anything
        raise ImageError(f"{path}: not a readable mask ({problem})") from None
