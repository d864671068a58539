"""Content hashes of images: computed when first asked for, and remembered."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from illama.files import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from illama.sources.source import Images

READERS = 8
"""Threads for files: most of the time goes into waiting for a disk."""
_AT_A_TIME = 64


@dataclass(eq=False)
class ContentHashes:
    """The hash of each image's content, by its position; each image is read once at most."""

    hash_one: Callable[[int], str]
    """Position -> hexadecimal sha256; empty where the content cannot be read."""
    readers: int = READERS
    """Threads that read at a time."""
    known: dict[int, str] = field(default_factory=dict, repr=False)

    def __call__(self, positions: Sequence[int]) -> tuple[str, ...]:
        """Return the hashes of the contents at these positions."""
        unknown = [position for position in positions if position not in self.known]
        parts = [unknown[i : i + _AT_A_TIME] for i in range(0, len(unknown), _AT_A_TIME)]
        with ThreadPoolExecutor(self.readers) as pool:
            for part, hashes in zip(parts, pool.map(self._hash_part, parts), strict=True):
                self.known.update(zip(part, hashes, strict=True))
        return tuple(self.known[position] for position in positions)

    def _hash_part(self, positions: Sequence[int]) -> list[str]:
        return [self.hash_one(position) for position in positions]


def hash_pixels(images: Images) -> ContentHashes:
    """Return the hashes of images that need no file: one thread, as no disk is waited for."""
    return ContentHashes(partial(_hash_pixels, images), readers=1)


def _hash_pixels(images: Images, position: int) -> str:
    return hash_bytes(images[position].tobytes())


def hash_bytes(data: bytes) -> str:
    """Return the hexadecimal sha256 of an image's bytes."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, empty if it cannot be read."""
    try:
        return sha256_of_file(path)
    except OSError:
        return ""
