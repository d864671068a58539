"""Tar shards, read in place: members are indexed once and their bytes decoded in memory.

Nothing is extracted, and only images and whole-number labels are read, so neither unsafe paths nor
pickles among the members can do harm.
"""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from illama.sources.contents import ContentHashes, hash_bytes
from illama.sources.folder import unique_ids
from illama.sources.imagenet import is_wnid
from illama.sources.listing import IMAGE_SUFFIXES, LeftOutFiles, is_hidden, is_image
from illama.sources.numbering import WRAPPER, Numbered, number_folders
from illama.sources.source import Source, SourceError, make_source
from illama.sources.splits import SPLIT_NAMES, choose_split, split_of
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


class _Images(NamedTuple):
    """The images of a source in tar shards, in order."""

    members: Sequence[_Member]
    ids: Sequence[str]
    numbered: Numbered | None
    """Their labels, if there are any."""
    split: str


def open_tar(shards: Sequence[Path], name: str, split: str, labels: Path | None) -> Source:
    """Open tar shards: pairs of KEY.jpg and KEY.cls, class directories, or flat with a CSV or none.

    Ids are `shard/KEY`. Where all shards are named after splits, or all images are in directories
    of splits, only `split` is opened. Flat shards that are named by WordNet ids are classes.

    Raises:
        SourceError: damaged, compressed, without images, or a label missing or not a whole number.
    """
    shards, chosen = _shards_of_split(shards, split)
    left_out = LeftOutFiles()
    members = [member for i, path in enumerate(shards) for member in _index(i, path, left_out)]
    if labels is None and any(member.name.endswith(".cls") for member in members):
        found = _pair(shards, members, chosen, left_out)
    else:
        found = _name(shards, members, name, split, chosen, labels, left_out)
    numbered = found.numbered
    spans = np.array([(each.shard, each.offset, each.size) for each in found.members], np.int64)
    source = make_source(
        name=name,
        split=found.split,
        names=found.ids,
        labels=None if numbered is None else numbered.labels,
        classes=None if numbered is None else numbered.classes,
        further_labels=None if numbered is None else numbered.further,
        numbered="" if numbered is None else numbered.order,
        contents=ContentHashes(partial(_hash_member, tuple(shards), spans)),
        read=partial(_read_member, tuple(shards), spans),
        left_out=left_out.kinds(),
    )
    return source if numbered is not None else source.noting(_unlabeled_note(source, len(shards)))


def _name(
    shards: Sequence[Path],
    members: Sequence[_Member],
    name: str,
    split: str,
    chosen: str,
    labels: Path | None,
    left_out: LeftOutFiles,
) -> _Images:
    """Return the images that are labeled by a table, by their directories, or not at all."""
    images, chosen = _images_of_split(members, split, chosen)
    names = _without_prefix([each.name for each in images])
    stems = [shards[each.shard].stem for each in images]
    numbered: Numbered | None = None
    if labels is not None:
        listed = apply_labels(labels, names)
        left_out.add_unlisted(names, listed.kept, labels.name)
        images, numbered = [images[i] for i in listed.kept], listed.numbered
    elif {each.split("/")[0].lower() for each in names if "/" in each} - {WRAPPER}:
        numbered = number_folders(names, name)
    elif len(shards) > 1 and all(map(is_wnid, stems)):
        inside = [f"{stem}/{each}" for stem, each in zip(stems, names, strict=True)]
        numbered = number_folders(inside, name)
    ids = unique_ids([f"{shards[each.shard].stem}/{each.name}" for each in images])
    return _Images(images, ids, numbered, chosen)


def _unlabeled_note(source: Source, shards: int) -> str:
    """Return where the labels of an unlabeled set may be, empty if there is no sign of any."""
    by_kind = {each.kind: each.files for each in source.left_out}
    if by_kind.get(".json", 0) >= len(source):
        return (
            f"{source.name}: labels in .json members are not read; store each as KEY.cls, a whole"
            " number, or give a CSV of labels"
        )
    if shards > 1:
        return (
            f"{source.name}: {shards} archives without labels; if each is one class, unpack each"
            " into a folder of its name, or give a CSV of labels"
        )
    return ""


def _index(shard: int, path: Path, left_out: LeftOutFiles) -> Iterator[_Member]:
    """Yield the images and labels of a shard, all of its archives if several are joined.

    A shard without its end is refused, not shortened.
    """
    try:
        with path.open("rb") as file:
            while True:
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    for member in archive:
                        yield from _accept(shard, path, member, left_out)
                    file.seek(archive.offset)
                ended = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
                if not ended or not _skip_zeros(file):
                    break
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged archive raises almost anything
        raise SourceError(
            f"{path} is not a plain tar archive ({error}); uncompress it, or download it again"
        ) from None
    if not ended:
        raise SourceError(f"{path} is damaged or cut off before its end mark; download it again")


def _skip_zeros(file: BinaryIO) -> bool:
    """Move to the next block that is not empty, and return whether there is one."""
    while block := file.read(tarfile.BLOCKSIZE):
        if block.strip(b"\0"):
            file.seek(-len(block), os.SEEK_CUR)
            return True
    return False


def _accept(
    shard: int, path: Path, member: tarfile.TarInfo, left_out: LeftOutFiles
) -> Iterator[_Member]:
    if member.size < 0:  # the next member would be before this one: an endless loop
        raise SourceError(f"{path} is damaged: a member of {member.size} bytes; download it again")
    name = "/".join(part for part in member.name.split("/") if part not in ("", ".", ".."))
    if member.isdir():
        return
    *folders, base = name.split("/")
    if any(map(is_hidden, folders)):
        left_out.add(name, "in hidden folders")
    elif is_hidden(base) or not (is_image(base) or base.endswith(".cls")):
        left_out.add(name)
    elif not member.isreg() or member.issparse():
        raise SourceError(f"{path}: {name!r} is not a regular file; store the images themselves")
    else:
        yield _Member(shard, name, member.offset_data, member.size)


def _pair(
    shards: Sequence[Path], members: Sequence[_Member], chosen: str, left_out: LeftOutFiles
) -> _Images:
    """Return the images with their labels; each image must have a KEY.cls."""
    images = []
    for each in members:
        if f".{_key(each.name)[1]}" in IMAGE_SUFFIXES:
            images.append(each)
        elif not each.name.endswith(".cls"):
            left_out.add(each.name, f".{_key(each.name)[1]}")
    label_of = {(m.shard, _key(m.name)[0]): m for m in members if m.name.endswith(".cls")}
    keys = [(each.shard, _key(each.name)[0]) for each in images]
    lone = sorted(set(keys) ^ set(label_of))
    if lone:
        shard, key = lone[0]
        raise SourceError(
            f"{shards[shard]}: {key!r} is not a pair of an image and a .cls ({len(lone)} such keys)"
            "; complete or remove them"
        )
    labels = np.array([_read_label(shards, label_of[key]) for key in keys], np.int64)
    ids = [f"{shards[each.shard].stem}/{_key(each.name)[0]}" for each in images]
    return _Images(images, ids, Numbered(labels, None), chosen)


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
    splits = [split_of(path.stem) for path in shards]
    named = {each for each in splits if each is not None}
    if None in splits:
        return shards, "all"
    chosen = choose_split(named, split, shards[0].parent)[0]
    return [path for path, each in zip(shards, splits, strict=True) if each == chosen], chosen


def _images_of_split(
    members: Sequence[_Member], split: str, chosen: str
) -> tuple[list[_Member], str]:
    """Keep the images of the split where all of them are in directories of splits."""
    images = [member for member in members if is_image(member.name)]
    first = [name.split("/")[0].lower() for name in _without_prefix([each.name for each in images])]
    if not images or not SPLIT_NAMES.issuperset(first):
        return images, chosen
    chosen = choose_split(set(first), split, "the archive")[0]
    return [each for each, top in zip(images, first, strict=True) if top == chosen], chosen


def _without_prefix(names: Sequence[str]) -> list[str]:
    """Drop the directories that all names share."""
    shared = posixpath.commonpath([f"/{name.rpartition('/')[0]}" for name in names] or ["/"])
    return [f"/{name}".removeprefix(shared).removeprefix("/") for name in names]


def _hash_member(shards: Sequence[Path], spans: NDArray[np.int64], position: int) -> str:
    shard, offset, size = spans[position].tolist()
    try:
        return hash_bytes(_read_bytes(shards[shard], offset, size))
    except ImageError:
        return ""


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
