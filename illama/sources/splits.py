"""Finding the splits of a set by the names of its folders or shards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from illama.sources.listing import has_image, list_folder
from illama.sources.numbering import WRAPPER
from illama.sources.source import SourceError
from illama.sources.tables import ANNOTATIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_TRAIN, _TEST = ("train", "training"), ("test", "testing")
_VAL = ("val", "valid", "validation", "dev")
SPLIT_NAMES = frozenset((*_TRAIN, *_TEST, *_VAL))
"""Names of folders and shards that are splits, in lower case; others are classes."""
_LOOKED_FOR = {"train": _TRAIN, "test": (*_TEST, *_VAL), "val": _VAL}
"""Names of a split, in order of preference; any other split has only its own name."""


def choose_split(present: Collection[str], split: str, origin: object) -> tuple[str, ...]:
    """Return the names of the split among those present, in order of preference.

    Raises:
        SourceError: none does.
    """
    found = tuple(name for name in _LOOKED_FOR.get(split, (split,)) if name in present)
    if not found:
        raise SourceError(f"{origin} has no split {split!r}; it has {', '.join(sorted(present))}")
    return found


def split_of(name: str) -> str | None:
    """Return the one split that a name contains as a word, as in `set-train-003`."""
    found = SPLIT_NAMES.intersection(re.split("[^a-z]+", name.lower()))
    return next(iter(found)) if len(found) == 1 else None


def split_folder(root: Path, split: str) -> tuple[Path, str] | None:
    """Return the folder of `split` inside `root` and its split, or None if `root` has no splits.

    Names are compared without regard to case.

    Raises:
        SourceError: `root` has splits, but not this one, or also has class folders.
    """
    present = _find_splits(root)
    if not present:
        return None
    found = [(present[name], name) for name in choose_split(present, split, root)]
    # ImageNet's own test folder is flat and unlabeled: people test on its val folder
    classified = [each for each in found if _is_labeled(each[0])]
    return (classified or found)[0]


def find_shards(root: Path) -> tuple[Path, ...]:
    """Return the sorted `.tar` files of a folder, none if it has images itself."""
    entries = list_folder(root)
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    if has_image(root) or any(map(has_image, folders)):
        return ()
    return tuple(sorted(Path(each.path) for each in entries if each.name.endswith(".tar")))


def _find_splits(root: Path) -> Mapping[str, Path]:
    """Return the folders of splits in `root` by their splits; empty if it has none."""
    folders = sorted(Path(entry.path) for entry in list_folder(root) if entry.is_dir())
    exact = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    if not exact:
        return _find_long_names(folders)
    beside = [folder for folder in folders if folder not in exact and has_image(folder)]
    if beside and len(exact) == 1 and has_image(exact[0]):
        return {}  # a class that has the name of a split
    if beside:
        raise SourceError(
            f"{root}: {_named(exact)} look like splits, {_named(beside)} like classes; give the"
            " path of one split, or move the other folders away"
        )
    found = {folder.name.lower(): folder for folder in exact}
    if len(found) < len(exact):
        raise SourceError(f"{root}: {_named(exact)} differ by case alone; join or rename them")
    return found


def _find_long_names(folders: Sequence[Path]) -> Mapping[str, Path]:
    """Return folders such as `training_set` and `test_set`, if all are splits with classes."""
    found = {split_of(folder.name): folder for folder in folders}
    alike = None in found or len(found) < max(2, len(folders))
    if alike or any(map(has_image, folders)):
        return {}
    return {split: folder for split, folder in found.items() if split is not None}


def _is_labeled(folder: Path) -> bool:
    """Return whether a split has class folders, or a table of labels that is known by its name."""
    inside = [entry.name for entry in list_folder(folder) if entry.is_dir()]
    return any(name.lower() != WRAPPER for name in inside) or (folder / ANNOTATIONS).is_file()


def _named(folders: Sequence[Path]) -> str:
    """Return the names of the first folders."""
    more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""  # noqa: PLR2004 - a few are enough
    return ", ".join(repr(folder.name) for folder in folders[:3]) + more
