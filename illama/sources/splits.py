"""Finding the splits of a set by the names of its folders or shards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from illama.sources.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Collection

SPLIT_NAMES = frozenset(("train", "test", "val", "validation"))
_LOOKED_FOR = {"test": ("test", "val", "validation"), "val": ("val", "validation")}
"""Folder names of a split, in order of preference; any other split has only its own name."""
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm")
)


def choose_split(present: Collection[str], split: str, origin: object) -> tuple[str, ...]:
    """Return the names of the split among those present, in order of preference.

    Raises:
        SourceError: none does.
    """
    found = tuple(name for name in _LOOKED_FOR.get(split, (split,)) if name in present)
    if not found:
        raise SourceError(f"{origin} has no split {split!r}; it has {', '.join(sorted(present))}")
    return found


def split_folder(root: Path, split: str) -> Path | None:
    """Return the folder of `split` inside `root`, or None when `root` has no splits.

    Raises:
        SourceError: `root` has splits, but not this one.
    """
    folders = [entry.name for entry in list_folder(root) if entry.is_dir()]
    present = SPLIT_NAMES.intersection(folders)
    if not present or any(_has_image(root / name) for name in set(folders) - present):
        return None
    found = [root / name for name in choose_split(present, split, root)]
    # ImageNet's own test folder is flat and unlabeled: people test on its val folder
    classified = [path for path in found if any(each.is_dir() for each in list_folder(path))]
    return (classified or found)[0]


def find_shards(root: Path) -> tuple[Path, ...]:
    """Return the sorted `.tar` files of a folder, none if it has images itself."""
    entries = list_folder(root)
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    if _has_image(root) or any(map(_has_image, folders)):
        return ()
    return tuple(sorted(Path(each.path) for each in entries if each.name.endswith(".tar")))


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder without its hidden entries.

    Raises:
        SourceError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{folder} cannot be listed ({error.strerror})") from None


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image and not hidden."""
    base = name.rpartition("/")[2]
    return os.path.splitext(base)[1].lower() in IMAGE_SUFFIXES and not base.startswith(".")  # noqa: PTH122 - a string, 50,000 times


def _has_image(folder: Path) -> bool:
    return any(is_image(entry.name) for entry in list_folder(folder))
