"""Listing folders: which files are images, and a count of those that are not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from illama.sources.source import LeftOut, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp"),
        *(".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
HIDDEN = frozenset(
    ("@eadir", "#recycle", "@recycle", "$recycle.bin", "__macosx", "lost+found", "thumbs.db")
)
"""Names, in lower case, that NAS devices, systems and archivers give to what is not data."""


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder without its hidden entries.

    Raises:
        SourceError: it cannot be listed.
    """
    return [entry for entry in list_everything(folder) if not is_hidden(entry.name)]


def list_everything(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder with its hidden entries.

    Raises:
        SourceError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise SourceError(f"{folder} cannot be listed ({error.strerror})") from None


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or no data by its name."""
    return name.startswith(".") or name.lower() in HIDDEN


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image and not hidden."""
    base = name.rpartition("/")[2]
    return suffix_of(base) in IMAGE_SUFFIXES and not base.startswith(".")


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name in lower case, empty if it has none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a string, 50,000 times


def has_image(folder: Path) -> bool:
    """Return whether there is an image in the folder itself."""
    return any(is_image(entry.name) for entry in list_folder(folder))


class LeftOutFiles:
    """Counts files that are not among the images, by kind."""

    def __init__(self) -> None:
        self._found: dict[str, LeftOut] = {}

    def add(self, name: str, kind: str | None = None, files: int = 1) -> None:
        """Count a file, or a folder of files; the kind is its suffix unless given."""
        base = name.rpartition("/")[2]
        known = "hidden" if is_hidden(base) else suffix_of(base) or "without a suffix"
        kind = kind or known
        before = self._found.get(kind, LeftOut(kind, 0, name))
        if files:
            first = min(before.first, name)
            self._found[kind] = LeftOut(kind, before.files + files, first)

    def add_hidden_folder(self, folder: Path, name: str) -> None:
        """Count the files below a hidden folder."""
        files = sum(len(inside) for _, _, inside in os.walk(folder))
        self.add(f"{name}/", "in hidden folders", files)

    def add_unlisted(self, names: Sequence[str], kept: Sequence[int], table: str) -> None:
        """Count the images that a table of labels does not list."""
        listed = set(kept)
        for position, name in enumerate(names):
            if position not in listed:
                self.add(name, f"not in {table}")

    def kinds(self) -> tuple[LeftOut, ...]:
        """Return the kinds, the most frequent first."""
        return tuple(sorted(self._found.values(), key=lambda each: (-each.files, each.kind)))
