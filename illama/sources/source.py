"""The type Source: a set of images with stable ids, labels, a fingerprint and a reader."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from illama.transforms import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

IMAGENET_CLASSES = 1000


class SourceError(ValueError):
    """A source that cannot be measured; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A named set of images; made by `open_source`.

    Positions count from 0 in the order of `ids`. `contents` holds one content hash or byte length
    per image, from which the fingerprints of subsets are made.
    """

    name: str
    split: str
    """"test", "train", ...; "all" where the set has no splits."""
    ids: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] | None = field(repr=False)
    """[images] in the head's numbering; None when unlabeled."""
    classes: tuple[str, ...] | None = field(repr=False)
    """The names of the labels 0, 1, ..., when known."""
    fingerprint: str
    """Hexadecimal sha256 over the sorted (id, label, content)."""
    read: Callable[[int], NDArray[np.uint8]] = field(repr=False)
    """Position -> uint8 [row, column, 3]; raises `ImageError`. Can be pickled for workers."""
    in_memory: bool
    """Whether reading is so cheap that loader workers would only slow it down."""
    class_subset: tuple[int, ...] | None = None
    """The head's indices kept before the softmax; None keeps all."""
    cues: NDArray[np.int64] | None = field(default=None, repr=False)
    """The category of each image's shape and of its texture, [images, 2]; None where it has one
    category alone."""
    categories: tuple[str, ...] | None = field(default=None, repr=False)
    """The names of the cues 0, 1, ..."""
    groups: Mapping[str, tuple[str, ...]] | None = field(default=None, repr=False)
    """Way of grouping -> each image's group; images of a group are not independent. None where
    all are."""
    masks: Callable[[int], NDArray[np.uint8]] | None = field(default=None, repr=False)
    """Position -> the class of each pixel, uint8 [row, column], 255 where there is none; raises
    `ImageError`."""
    mask_classes: tuple[str, ...] | None = field(default=None, repr=False)
    """The names of the classes of pixels."""
    contents: tuple[str | int, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def limit(self, images: int, seed: int) -> Source:
        """Keep the `images` ids of smallest hash(id, seed), in their original order.

        Raises:
            SourceError: the limit is below one image.
        """
        if images < 1:
            raise SourceError(
                f"a limit of {images} images leaves nothing of {self.name}; use 1 or more"
            )
        if images >= len(self):
            return self
        return self.keep(np.flatnonzero(hash_order(self.ids, seed) < images))

    def keep(self, positions: NDArray[np.int64]) -> Source:
        """Return the source with only the images at these positions, in this order."""
        return _fingerprinted(
            self,
            ids=tuple(self.ids[i] for i in positions),
            labels=None if self.labels is None else self.labels[positions],
            cues=None if self.cues is None else self.cues[positions],
            groups=self.groups and keep_groups(self.groups, positions),
            contents=tuple(self._contents[i] for i in positions),
            read=partial(read_kept, self.read, positions),
            masks=None if self.masks is None else partial(read_kept, self.masks, positions),
        )

    def for_head(self, classes: int) -> Source:
        """Return the source with its labels in the numbering of a head of `classes` outputs.

        Folders named by WordNet ids are mapped to the 1000 ImageNet indices; with a class subset,
        as many classes as it has indices are mapped to these in order. Images with cues whose
        categories are not the head's classes lose their labels, and keep their cues.

        Raises:
            SourceError: labels, class count or class subset do not fit the head.
        """
        _check_subset(self, classes)
        if self.labels is None:
            return self
        if self.cues is not None and len(self.classes or ()) != classes:
            return replace(self, labels=None, classes=None)
        labels, names = _renumber(self, self.labels, classes)
        _check_labels(self, labels, classes)
        if labels is self.labels:
            return self
        return _fingerprinted(self, labels=labels, classes=names, contents=self._contents)

    def read_pair(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an image [row, column, 3] with its mask [row, column].

        Raises:
            ImageError: one of them cannot be read, or their sizes differ.
        """
        assert self.masks is not None, "the source has no masks"
        image, mask = self.read(position), self.masks(position)
        if image.shape[:2] != mask.shape:
            here, there = (f"{shape[1]} x {shape[0]}" for shape in (image.shape, mask.shape))
            raise ImageError(f"{self.ids[position]}: the image has {here} pixels, its mask {there}")
        return image, mask

    def lacks(self, fields: Iterable[str]) -> str:
        """Return the first of these fields, such as `labels`, that is None; empty if none is."""
        return next((name for name in sorted(fields) if getattr(self, name) is None), "")

    @property
    def _contents(self) -> tuple[str | int, ...]:
        return self.contents or (self.fingerprint,) * len(self)


def keep_groups(
    groups: Mapping[str, tuple[str, ...]], positions: NDArray[np.int64]
) -> Mapping[str, tuple[str, ...]]:
    """Return the groups of the images at these positions alone."""
    return {way: tuple(names[i] for i in positions) for way, names in groups.items()}


def make_source(
    *,
    name: str,
    split: str,
    names: Sequence[str],
    labels: NDArray[np.int64] | None,
    contents: Sequence[str | int],
    read: Callable[[int], NDArray[np.uint8]],
    classes: Sequence[str] | None = None,
    in_memory: bool = False,
) -> Source:
    """Make a source and its fingerprint.

    File names that are not valid UTF-8 contain lone surrogates, which UTF-8 files cannot: they
    become visible escapes in the source's name, its ids and its classes.

    Raises:
        SourceError: no image, two images of one id, or a label outside the classes.
    """
    name, *ids = map(_visible, (name, *names))
    classes = None if classes is None else tuple(map(_visible, classes))
    if not ids:
        raise SourceError(f"{name} has no images")
    twice = next((each for each, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise SourceError(f"two images of {name} have the id {twice!r}; rename one of them")
    if labels is not None and classes is not None:
        _check_classes(name, ids, labels, len(classes))
    return Source(
        name=name,
        split=split,
        ids=tuple(ids),
        labels=labels,
        classes=classes,
        fingerprint=fingerprint(ids, labels, contents),
        read=read,
        in_memory=in_memory,
        contents=tuple(contents),
    )


def _visible(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def fingerprint(
    ids: Sequence[str], labels: NDArray[np.int64] | None, contents: Sequence[str | int]
) -> str:
    """Return the hexadecimal sha256 over the sorted (id, label, content), in any order given."""
    tokens = [None] * len(ids) if labels is None else labels.tolist()
    digest = hashlib.sha256()
    for item in sorted(zip(ids, tokens, contents, strict=True), key=lambda each: each[0]):
        digest.update(ascii(item).encode())
    return digest.hexdigest()


def hash_order(ids: Sequence[str], seed: int = 0) -> NDArray[np.int64]:
    """Return the rank of every image's hash(id, seed), int64 [images], 0 for the smallest.

    The ranks depend on the set of ids only, not on their order.
    """
    keys = [(_hash(f"{seed}\0{each}"), each) for each in ids]
    rank = np.empty(len(keys), np.int64)
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return rank


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()


def hash_arrays(images: Images) -> tuple[str, ...]:
    """Return the hexadecimal sha256 of each image's pixels."""
    return tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in images)


def read_array(images: Images, position: int) -> NDArray[np.uint8]:
    """Return the image at `position` of images held in memory."""
    return np.asarray(images[position])


def read_kept(
    read: Callable[[int], NDArray[np.uint8]], kept: NDArray[np.int64], position: int
) -> NDArray[np.uint8]:
    """Read the image at `position` of those that were kept."""
    return read(int(kept[position]))


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1000 ImageNet-1k classes in index order."""
    return tuple((files("illama") / "imagenet_wnids.txt").read_text("ascii").split())


def _fingerprinted(source: Source, **changes: object) -> Source:
    changed = replace(source, **changes)  # type: ignore[arg-type]  # fields by name
    return replace(changed, fingerprint=fingerprint(changed.ids, changed.labels, changed.contents))


def _check_classes(name: str, ids: Sequence[str], labels: NDArray[np.int64], classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise SourceError(
            f"{name}: label {labels[wrong[0]]} of {ids[wrong[0]]!r} is outside its {classes}"
            " classes"
        )


def _check_subset(source: Source, classes: int) -> None:
    outside = next((i for i in source.class_subset or () if not 0 <= i < classes), None)
    if outside is not None:
        raise SourceError(
            f"class subset of {source.name}: index {outside} is outside the head of {classes}"
            " classes; list indices of this head"
        )


def _renumber(
    source: Source, labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Return the labels in the head's numbering, and the names of the head's classes."""
    names, subset = source.classes, source.class_subset
    if names is None:
        return labels, None
    index_of = {wnid: index for index, wnid in enumerate(imagenet_wnids())}
    if classes == IMAGENET_CLASSES and index_of.keys() >= set(names):
        return _map_labels([index_of[name] for name in names], labels), imagenet_wnids()
    if subset is not None and len(names) == len(subset) != classes:
        return _map_labels(subset, labels), None
    if len(names) != classes:
        raise SourceError(
            f"{source.name} has {len(names)} classes, the head has {classes}; use a set with the"
            " head's classes, or name the head's indices with a class subset"
        )
    return labels, names


def _map_labels(indices: Sequence[int], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array(indices, np.int64)[labels]


def _check_labels(source: Source, labels: NDArray[np.int64], classes: int) -> None:
    allowed = np.zeros(classes, bool)
    allowed[list(source.class_subset or range(classes))] = True
    inside = (labels >= 0) & (labels < classes)
    wrong = np.flatnonzero(~(inside & allowed[np.clip(labels, 0, classes - 1)]))
    if wrong.size:
        where = "the class subset" if source.class_subset else f"the head of {classes} classes"
        raise SourceError(
            f"{source.name}: label {labels[wrong[0]]} of {source.ids[wrong[0]]!r} is outside"
            f" {where} ({wrong.size} such images); labels count from 0 in the head's numbering"
        )
