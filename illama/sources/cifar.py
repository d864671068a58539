"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), in the binary and the python release.

The python release consists of pickles. They are read by an unpickler that allows only the few numpy
functions an array needs, so a hostile file is refused before anything in it runs.
"""

from __future__ import annotations

import codecs
import io
import pickle
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from illama.sources.contents import hash_pixels
from illama.sources.source import Source, SourceError, make_source, read_array

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_PIXELS = 3 * 32 * 32
_TRAIN_10 = tuple(f"data_batch_{k}" for k in range(1, 6))
_reconstruct, _from_buffer = (np.empty(1).__reduce_ex__(protocol)[0] for protocol in (2, 5))
_ALLOWED = {
    ("_codecs", "encode"): codecs.encode,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
"""The names that numpy's own pickles of arrays use, in any version and protocol."""


@dataclass(frozen=True)
class _Release:
    """One release: its files and the form of its records."""

    classes: int
    folder: str
    test: tuple[str, ...]
    train: tuple[str, ...]
    meta: str
    binary: bool
    fine: bool
    """Whether a coarse label comes before the fine one, the one that is used."""

    @property
    def name(self) -> str:
        return f"cifar{self.classes}"

    def is_in(self, folder: Path) -> bool:
        """Return whether any file of the release is in the folder."""
        return any((folder / part).is_file() for part in (*self.test, *self.train))

    def key(self, name: str) -> str:
        """Return the key of the labels or their names in a pickle."""
        return f"fine_{name}" if self.fine else name


_RELEASES = (  # the binary ones first: they contain no code
    _Release(
        classes=10,
        folder="cifar-10-batches-bin",
        test=("test_batch.bin",),
        train=tuple(f"{part}.bin" for part in _TRAIN_10),
        meta="batches.meta.txt",
        binary=True,
        fine=False,
    ),
    _Release(
        classes=100,
        folder="cifar-100-binary",
        test=("test.bin",),
        train=("train.bin",),
        meta="fine_label_names.txt",
        binary=True,
        fine=True,
    ),
    _Release(
        classes=10,
        folder="cifar-10-batches-py",
        test=("test_batch",),
        train=_TRAIN_10,
        meta="batches.meta",
        binary=False,
        fine=False,
    ),
    _Release(
        classes=100,
        folder="cifar-100-python",
        test=("test",),
        train=("train",),
        meta="meta",
        binary=False,
        fine=True,
    ),
)


def find_cifar(folder: Path, classes: int | None = None) -> tuple[Path, _Release] | None:
    """Find a release in the folder or in its standard subfolder, a binary one first.

    Raises:
        SourceError: both CIFAR-10 and CIFAR-100 are there and `classes` is None.
    """
    wanted = [release for release in _RELEASES if classes in (None, release.classes)]
    candidates = [(path, each) for each in wanted for path in (folder, folder / each.folder)]
    found = [(path, each) for path, each in candidates if each.is_in(path)]
    if len({each.classes for _, each in found}) > 1:
        raise SourceError(
            f"{folder} contains both CIFAR-10 and CIFAR-100; name the folder of one of them"
        )
    return found[0] if found else None


def open_cifar(folder: Path, release: _Release, split: str) -> Source:
    """Open the `train` or `test` split of a release; ids are `test/00017`.

    Raises:
        SourceError: unknown split, a part missing, damaged, hostile, or with labels out of range.
    """
    splits = {"test": release.test, "train": release.train}
    if split not in splits:
        raise SourceError(f"{release.name} has no split {split!r}; it has test and train")
    read = _read_binary if release.binary else _read_python
    parts = [read(folder / part, release) for part in splits[split]]
    images = np.concatenate([pixels for pixels, _ in parts])
    images = np.ascontiguousarray(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return make_source(
        name=release.name,
        split=split,
        names=[f"{split}/{i:05d}" for i in range(len(images))],
        labels=np.concatenate([labels for _, labels in parts]),
        classes=_read_classes(folder / release.meta, release),
        contents=hash_pixels(images),
        read=partial(read_array, images),
        in_memory=True,
    )


def _read_binary(path: Path, release: _Release) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data = np.frombuffer(_read_bytes(path), np.uint8)
    label_bytes = 2 if release.fine else 1
    if not data.size or data.size % (label_bytes + _PIXELS):
        raise SourceError(
            f"{path}: {data.size} bytes are not a whole number of records; unpack it again"
        )
    records = data.reshape(-1, label_bytes + _PIXELS)
    return records[:, label_bytes:], records[:, label_bytes - 1].astype(np.int64)


def _read_python(path: Path, release: _Release) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch, key = _read_pickle(path), release.key("labels")
    data, labels = np.asarray(batch.get("data")), batch.get(key)
    if (
        data.dtype != np.uint8
        or not isinstance(labels, list)
        or data.shape != (len(labels), _PIXELS)
    ):
        raise SourceError(
            f"{path}: expected 'data' uint8 [images, {_PIXELS}] and one of {key!r} per image;"
            " unpack it again"
        )
    if not all(type(label) is int and 0 <= label < release.classes for label in labels):
        raise SourceError(f"{path}: a label is not in 0..{release.classes - 1}; unpack it again")
    return data, np.array(labels, np.int64)


def _read_classes(path: Path, release: _Release) -> tuple[str, ...]:
    """Return the class names, or their numbers where the release has no meta file."""
    names: Any = []
    if path.is_file() and release.binary:
        names = _read_bytes(path).decode("utf-8", "replace").split()
    elif path.is_file():
        names = _read_pickle(path).get(release.key("label_names"))
    if isinstance(names, list) and len(names) == release.classes:
        return tuple(_text(name) for name in names)
    return tuple(str(index) for index in range(release.classes))


class _ArrayUnpickler(pickle.Unpickler):
    """Loads arrays, lists and strings; refuses every other name."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Return an allowed object; any other name raises before it is looked up."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        batch = _ArrayUnpickler(io.BytesIO(_read_bytes(path)), encoding="bytes").load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle raises almost anything
        raise SourceError(f"{path} is damaged or hostile ({error}); unpack it again") from None
    if not isinstance(batch, dict):
        raise SourceError(f"{path}: not a dictionary; unpack it again")
    return {_text(key): value for key, value in batch.items()}


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); unpack it again") from None


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
