"""Tar shards, read in place: members are indexed once and their bytes decoded in memory.

Nothing is extracted, and only images and whole-number labels are read, so neither unsafe paths nor
pickles among the members can do harm.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from illama.sources.folder import number_classes, unique_ids
from illama.sources.source import Source, SourceError, make_source
from illama.sources.splits import IMAGE_SUFFIXES, SPLIT_NAMES, choose_split, is_image
from illama.sources.tables import apply_labels
from illama.transforms import ImageError, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_LONGEST_LABEL = 32
"""Bytes; a whole number with its line end is far shorter."""


class _Member(NamedTuple):
    """An image or a label inside a shard; its name has no unsafe parts such as `..`."""

    shard: int
    name: str
    offset: int
    size: int


def open_tar(shards: Sequence[Path], name: str, split: str, labels: Path | None) -> Source:
    """Open tar shards: pairs of KEY.jpg and KEY.cls, class directories, or flat with a CSV or none.

    Ids are `shard/KEY`. Where all shards are named after splits, or all images are in directories
    of splits, only `split` is opened.

    Raises:
        SourceError: damaged, compressed, without images, or a label missing or not a whole number.
    """
    shards, chosen = _shards_of_split(shards, split)
    members = [member for i, path in enumerate(shards) for member in _index(i, path)]
    numbers: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    if labels is None and any(member.name.endswith(".cls") for member in members):
        images, numbers = _pair(shards, members)
        ids = [f"{shards[each.shard].stem}/{_key(each.name)[0]}" for each in images]
    else:
        images, chosen = _images_of_split(members, split, chosen)
        names = _without_prefix([each.name for each in images])
        if labels is not None:
            kept, numbers, classes = apply_labels(labels, names)
            images = [images[i] for i in kept]
        elif any("/" in each for each in names):
            numbers, classes = number_classes(names, name)
        ids = unique_ids([f"{shards[each.shard].stem}/{each.name}" for each in images])
    spans = np.array([(each.shard, each.offset, each.size) for each in images], np.int64)
    return make_source(
        name=name,
        split=chosen,
        names=ids,
        labels=numbers,
        classes=classes,
        contents=[each.size for each in images],
        read=partial(_read_member, tuple(shards), spans),
    )


def _index(shard: int, path: Path) -> Iterator[_Member]:
    """Yield the images and labels of a shard; a shard without its end is refused, not shortened."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                yield from _accept(shard, path, member)
            archive.fileobj.seek(archive.offset)
            ended = archive.fileobj.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged archive raises almost anything
        raise SourceError(
            f"{path} is not a plain tar archive ({error}); uncompress it, or download it again"
        ) from None
    if not ended:
        raise SourceError(f"{path} is damaged or cut off before its end mark; download it again")


def _accept(shard: int, path: Path, member: tarfile.TarInfo) -> Iterator[_Member]:
    if member.size < 0:  # the next member would be before this one: an endless loop
        raise SourceError(f"{path} is damaged: a member of {member.size} bytes; download it again")
    name = "/".join(part for part in member.name.split("/") if part not in ("", ".", ".."))
    hidden = any(part.startswith(".") for part in name.split("/"))
    if hidden or not (is_image(name) or name.endswith(".cls")) or member.isdir():
        return
    if not member.isreg() or member.issparse():
        raise SourceError(f"{path}: {name!r} is not a regular file; store the images themselves")
    yield _Member(shard, name, member.offset_data, member.size)


def _pair(
    shards: Sequence[Path], members: Sequence[_Member]
) -> tuple[list[_Member], NDArray[np.int64]]:
    """Return the images and their labels; each image must have a KEY.cls."""
    images = [each for each in members if f".{_key(each.name)[1]}" in IMAGE_SUFFIXES]
    label_of = {(m.shard, _key(m.name)[0]): m for m in members if m.name.endswith(".cls")}
    keys = [(each.shard, _key(each.name)[0]) for each in images]
    lone = sorted(set(keys) ^ set(label_of))
    if lone:
        shard, key = lone[0]
        raise SourceError(
            f"{shards[shard]}: {key!r} is not a pair of an image and a .cls ({len(lone)} such keys)"
            "; complete or remove them"
        )
    return images, np.array([_read_label(shards, label_of[key]) for key in keys], np.int64)


def _read_label(shards: Sequence[Path], member: _Member) -> int:
    text = _read_bytes(shards[member.shard], member.offset, min(member.size, _LONGEST_LABEL))
    if not re.fullmatch(rb"\s*\d{1,9}\s*", text):
        raise SourceError(
            f"{shards[member.shard]}: {member.name!r} is not a whole number; give one class index"
        )
    return int(text)


def _key(name: str) -> tuple[str, str]:
    """Split a name at the first dot of its last part, as shards of pairs do."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _shards_of_split(shards: Sequence[Path], split: str) -> tuple[Sequence[Path], str]:
    """Keep the shards of the split where every shard's name has one, as in `x-train-003.tar`."""
    words = [SPLIT_NAMES.intersection(re.split("[^a-z]+", path.stem.lower())) for path in shards]
    if any(len(found) != 1 for found in words):
        return shards, "all"
    chosen = choose_split(set().union(*words), split, shards[0].parent)[0]
    return [path for path, found in zip(shards, words, strict=True) if chosen in found], chosen


def _images_of_split(
    members: Sequence[_Member], split: str, chosen: str
) -> tuple[list[_Member], str]:
    """Keep the images of the split where all of them are in directories of splits."""
    images = [member for member in members if is_image(member.name)]
    first = [name.split("/")[0] for name in _without_prefix([each.name for each in images])]
    if not images or not SPLIT_NAMES.issuperset(first):
        return images, chosen
    chosen = choose_split(set(first), split, "the archive")[0]
    return [each for each, top in zip(images, first, strict=True) if top == chosen], chosen


def _without_prefix(names: Sequence[str]) -> list[str]:
    """Drop the directories that all names share."""
    shared = posixpath.commonpath([f"/{name.rpartition('/')[0]}" for name in names] or ["/"])
    return [f"/{name}".removeprefix(shared).removeprefix("/") for name in names]


def _read_member(
    shards: Sequence[Path], spans: NDArray[np.int64], position: int
) -> NDArray[np.uint8]:
    shard, offset, size = spans[position].tolist()
    return decode(_read_bytes(shards[shard], offset, size))


def _read_bytes(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror})") from None
