"""Images at a model's size, kept on disk as exact eight-bit pixels for later runs.

A crop is found by the hash of its image's content, in a folder of everything else that decides its
pixels: the geometry and the decoder. So it serves every later run over the image, whatever the
source, the limit, the model or the study. Each process appends to files of its own, and none is
ever changed: runs can share the folder at the same time, and a killed one leaves at worst a last
crop that nobody finds. Every crop that is read is checked first.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features
from torch import Tensor

from illama.transforms import Geometry
from illama_eval.results import ResultError

FORMAT = 1
"""Version of the files."""
FOLDER = "crops"
"""Where the crops are inside the folder that is named."""

_ENTRY = np.dtype([("content", "V32"), ("checksum", "<u4")])
"""What belongs to a crop: the sha256 of its image's content, and a crc32 of both."""
_CODECS = ("jpg", "libjpeg_turbo", "zlib", "webp", "libtiff")


@dataclass
class CropCache:
    """The crops of one source's images in one geometry, by their positions.

    Where nothing can be written, what is there is still read, and a note says so.

    Raises:
        ResultError: the folder cannot be made.
    """

    root: Path
    geometry: Geometry
    contents: Sequence[str | int] = field(repr=False)
    """Hash of each image's content, hexadecimal; what is none is never kept."""

    def __post_init__(self) -> None:
        self.folder = self.root / FOLDER / _name_of(self.geometry)
        self._writer: _Writer | None = None
        self._maps: dict[Path, tuple[NDArray[np.uint8], NDArray[Any]]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise ResultError(
                f"--cache {self.root}: cannot be made ({problem.strerror}); name another folder"
            ) from None
        self._shards, self._rows = self._find()

    @property
    def kept(self) -> int:
        """How many of the images have a crop."""
        return int((self._rows[:, 0] >= 0).sum())

    def read(self, position: int) -> Tensor | None:
        """Return the crop of an image, uint8 [3, side, side]; None if there is no sound one."""
        row = int(self._rows[position, 1])
        if row < 0:
            return None
        shard = self._shards[int(self._rows[position, 0])]
        crops, entries = self._map(shard)
        if _checksum(entries[row]["content"].tobytes(), crops[row]) != entries[row]["checksum"]:
            return None
        return torch.from_numpy(np.array(crops[row]))

    def write(self, position: int, crop: Tensor) -> None:
        """Keep the crop of an image, in a file of this process."""
        content = _digest(self.contents[position])
        if content is None:
            return
        if self._writer is None or self._writer.process != os.getpid():
            self._writer = _Writer(self.folder)
        self._writer.append(content, crop.numpy())

    def _find(self) -> tuple[tuple[Path, ...], NDArray[np.int64]]:
        """Return the files, and of each image the number of its file and its row there, or -1."""
        shards = tuple(sorted(self.folder.glob("*.crops"), key=_age))
        found: dict[bytes, tuple[int, int]] = {}
        for number, shard in enumerate(shards):  # of several crops of an image, the newest
            _, entries = self._map(shard)
            for row, content in enumerate(entries["content"]):
                found[content.tobytes()] = number, row
        rows = [found.get(_digest(each) or b"", (-1, -1)) for each in self.contents]
        return shards, np.array(rows, dtype=np.int64).reshape(-1, 2)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker process needs; it opens the files itself."""
        return {**self.__dict__, "_writer": None, "_maps": {}}

    def _map(self, shard: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Return the crops of a file that have entries, mapped, and the entries."""
        if shard not in self._maps:
            self._maps[shard] = _map(shard, self.geometry.image_size)
        return self._maps[shard]


class _Writer:
    """The files that one process appends to; it stops with a note where the disk is full."""

    def __init__(self, folder: Path) -> None:
        self.process = os.getpid()
        self.folder, self.full = folder, False
        self.path = folder / f"{uuid.uuid4().hex}.crops"

    def append(self, content: bytes, crop: NDArray[np.uint8]) -> None:
        """Write a crop, and after it the entry by which it is found."""
        if self.full:
            return
        entry = np.array([(content, _checksum(content, crop))], dtype=_ENTRY)
        try:
            with self.path.open("ab") as file:
                file.write(crop.data)
            with _entries_of(self.path).open("ab") as file:
                file.write(entry.tobytes())
        except OSError as problem:
            self.full = True
            sys.stderr.write(f"note: {self.folder}: {problem.strerror}; no more crops are kept\n")


def _map(shard: Path, side: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return the crops of a file that have entries, mapped, and the entries."""
    try:
        entries = np.fromfile(_entries_of(shard), dtype=_ENTRY)
        count = min(len(entries), shard.stat().st_size // (3 * side * side))
    except OSError:
        count = 0
    if not count:
        return np.empty((0, 3, side, side), np.uint8), np.empty(0, _ENTRY)
    return np.memmap(shard, np.uint8, "r", shape=(count, 3, side, side)), entries[:count]


def _entries_of(shard: Path) -> Path:
    return shard.with_suffix(".entries")


def _age(path: Path) -> tuple[float, str]:
    """Return what sorts files by age; one that is being removed is the oldest."""
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name


def _checksum(content: bytes, crop: NDArray[np.uint8]) -> int:
    return zlib.crc32(crop.data, zlib.crc32(content))


def _digest(content: str | int) -> bytes | None:
    """Return the 32 bytes of a hexadecimal sha256; None of another or an empty content."""
    try:
        digest = bytes.fromhex(str(content))
    except ValueError:
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None


def _name_of(geometry: Geometry) -> str:
    """Return the name of the folder of a geometry: all but the image that decides the pixels."""
    decoder = {name: features.version(name) for name in _CODECS}
    key = {"format": FORMAT, "geometry": asdict(geometry), "Pillow": PIL.__version__, **decoder}
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
