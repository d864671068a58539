"""The type Source: a set of images with stable ids, labels, a fingerprint and a reader."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np

from illama.segmentation_metrics import IGNORED
from illama.transforms import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Contents = Callable[[Sequence[int]], Sequence[str | int]]


NO_CLASS = "none"
"""Name of the pixels that no class is given, 0 in the masks of an ADE20K folder."""


class SourceError(ValueError):
    """A source that cannot be measured; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 3


class LabelError(SourceError):
    """Labels that do not fit a head; the images can still be measured without them."""


class LeftOut(NamedTuple):
    """Files of one kind that are in a set's folders or archives, and not among its images."""

    kind: str
    """A suffix, such as `.heic`, or words, such as `in hidden folders`."""
    files: int
    first: str
    """The name of the first of them, inside the set."""


class Images(Protocol):
    """Images by position: an array, a list, or images that are drawn when they are read."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, position: int, /) -> NDArray[np.uint8]:
        """Return the image at a position, uint8 [row, column, 3]."""
        ...


@dataclass(frozen=True, eq=False)
class Source:
    """A named set of images; made by `open_source`.

    Positions count from 0 in the order of `ids`.
    """

    name: str
    split: str
    """"test", "train", ...; "all" where the set has no splits."""
    ids: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] | None = field(repr=False)
    """[images] in the head's numbering; None when unlabeled."""
    classes: tuple[str, ...] | None = field(repr=False)
    """The names of the labels 0, 1, ..., when known."""
    read: Callable[[int], NDArray[np.uint8]] = field(repr=False)
    """Position -> uint8 [row, column, 3]; raises `ImageError`. Can be pickled for workers."""
    in_memory: bool
    """Whether reading is so cheap that loader workers would only slow it down."""
    class_subset: tuple[int, ...] | None = None
    """The head's indices kept before the softmax; None keeps all."""
    further_labels: NDArray[np.int64] | None = field(default=None, repr=False)
    """Further true classes of each image, [images, most], -1 where there are no more; None where
    every image has one."""
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
    background: tuple[int, ...] | None = None
    """The classes of pixels that are background; None where nobody says which."""
    hash_contents: Contents = field(kw_only=True, repr=False)
    """Positions -> a hash of each image's content; empty where it cannot be read."""
    dropped_labels: NDArray[np.int64] | None = field(default=None, repr=False)
    """Labels that do not fit a head and were left out; they stay in the fingerprint, so that runs
    on the same images can be compared."""
    numbered: str = ""
    """How the classes were numbered where only their names are given, such as `alphabetically`;
    empty where their order is known."""
    left_out: tuple[LeftOut, ...] = ()
    """The files that were found and are not among the images."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know about the images, in sentences."""

    @cached_property
    def contents(self) -> tuple[str | int, ...]:
        """A hash of each image's content; the images are read for it the first time."""
        return tuple(self.hash_contents(range(len(self))))

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 over the sorted (id, label, content)."""
        labels = self.dropped_labels if self.labels is None else self.labels
        if labels is not None and self.further_labels is not None:
            labels = np.column_stack((labels, self.further_labels))
        return fingerprint(self.ids, labels, self.contents)

    @property
    def single_labels(self) -> NDArray[np.int64] | None:
        """The labels, where each image has one true class; else None."""
        return self.labels if self.further_labels is None else None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def find_shared(self, other: Source) -> list[str]:
        """Return the ids of images that another source has, too, compared by content."""
        known = set(other.contents) - {""}
        pairs = zip(self.ids, self.contents, strict=True)
        return [image_id for image_id, content in pairs if content in known]

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
        return replace(
            self,
            ids=tuple(self.ids[i] for i in positions),
            labels=_kept(self.labels, positions),
            further_labels=_kept(self.further_labels, positions),
            dropped_labels=_kept(self.dropped_labels, positions),
            cues=_kept(self.cues, positions),
            groups=self.groups and keep_groups(self.groups, positions),
            hash_contents=partial(_hash_kept, self.hash_contents, positions),
            read=partial(read_kept, self.read, positions),
            masks=None if self.masks is None else partial(read_kept, self.masks, positions),
        )

    def without_labels(self, note: str) -> Source:
        """Return the source without its labels, with a note that says why."""
        dropped = self.dropped_labels if self.labels is None else self.labels
        return replace(self, labels=None, classes=None, dropped_labels=dropped).noting(note)

    def with_background(self, names: Sequence[str]) -> Source:
        """Return the source with these classes of pixels as background, `none` for no class.

        Raises:
            SourceError: it has no masks, or no such class.
        """
        if self.masks is None:
            raise SourceError(
                f"{self.name} has no masks, so no background; use an ADE20K folder, or demo-shapes"
            )
        classes = self.mask_classes or ()
        known = {**{name: number for number, name in enumerate(classes)}, NO_CLASS: IGNORED}
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise SourceError(
                f"{self.name}: no class {unknown!r} of pixels; there are {classes[0]} ... "
                f"{classes[-1]}, and {NO_CLASS} for pixels without a class"
            )
        noted = self.noting(f"background: {', '.join(names)} of its masks")
        return replace(noted, background=tuple(sorted({known[name] for name in names})))

    def noting(self, *notes: str) -> Source:
        """Return the source with further notes; empty and known ones are dropped."""
        return replace(self, notes=tuple(dict.fromkeys(filter(None, (*self.notes, *notes)))))

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
    contents: Contents | Sequence[str | int],
    read: Callable[[int], NDArray[np.uint8]],
    classes: Sequence[str] | None = None,
    further_labels: NDArray[np.int64] | None = None,
    in_memory: bool = False,
    numbered: str = "",
    left_out: Sequence[LeftOut] = (),
) -> Source:
    """Make a source; `contents` are hashes by position, or the function that computes them.

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
        further_labels=further_labels,
        read=read,
        in_memory=in_memory,
        hash_contents=contents if callable(contents) else partial(_take, tuple(contents)),
        numbered=numbered,
        left_out=tuple(left_out),
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


def read_array(images: Images, position: int) -> NDArray[np.uint8]:
    """Return the image at `position` of images that need no file."""
    return np.asarray(images[position])


def read_kept(
    read: Callable[[int], NDArray[np.uint8]], kept: NDArray[np.int64], position: int
) -> NDArray[np.uint8]:
    """Read the image at `position` of those that were kept."""
    return read(int(kept[position]))


def _kept(
    values: NDArray[np.int64] | None, positions: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    return None if values is None else values[positions]


def _hash_kept(
    hash_contents: Contents, kept: NDArray[np.int64], positions: Sequence[int]
) -> Sequence[str | int]:
    return hash_contents([int(kept[position]) for position in positions])


def _take(contents: Sequence[str | int], positions: Sequence[int]) -> Sequence[str | int]:
    return [contents[position] for position in positions]


def _check_classes(name: str, ids: Sequence[str], labels: NDArray[np.int64], classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise SourceError(
            f"{name}: label {labels[wrong[0]]} of {ids[wrong[0]]!r} is outside its {classes}"
            " classes"
        )
