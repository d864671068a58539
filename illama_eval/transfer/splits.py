"""Training and test images of one transfer: opened, checked for overlap, classes numbered alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from illama.sources import open_source
from illama.sources.head import for_head
from illama.sources.source import LabelError, Source, SourceError
from illama_eval.subjects.subject import SubjectError
from illama_eval.transfer.linear import hold_out

TEST_SHARE = 0.2
"""Share of each class that is tested, of a set without splits."""
LEAK = 0.01
"""Share of the test images that may also be training images, bit for bit."""


@dataclass(frozen=True, kw_only=True)
class TransferSplit:
    """Images to train on and images to report on."""

    train: Source
    test: Source
    classes: int
    same: bool = False
    """Whether both are the same images: each is then left out of its own neighbours."""
    note: str = ""
    """What a reader of the result should know about the images."""


def open_split(
    data: str,
    *,
    train_data: str | None = None,
    split: str = "test",
    labels: Path | None = None,
    train_labels: Path | None = None,
    leave_one_out: bool = False,
    seed: int = 0,
) -> TransferSplit:
    """Open the training and the test images of `data`, or the training images of `train_data`.

    A set without splits is divided by class and the hash of the ids, unless each image can be left
    out of its own neighbours. Classes are matched by name; `train_labels` are those of the training
    images where `labels` has the test images alone.

    Raises:
        SourceError: images are missing or damaged.
        SubjectError: images are unlabeled, share images, or differ in their classes.
    """
    test = _labeled(open_source(data, split=split, labels=labels))
    train = _labeled(_open_train(data, train_data, labels, train_labels))
    if train.ids == test.ids and train.fingerprint == test.fingerprint:
        return _split_one(test, seed, leave_one_out=leave_one_out)
    classes = _count(train, test)
    known = for_head(train, classes, train.classes)
    try:
        tested = for_head(test, classes, train.classes)
    except LabelError as problem:
        raise SubjectError(
            f"{train.name} and {test.name}: their classes differ ({problem}); training and test"
            " images need the same"
        ) from None
    note = _check_disjoint(train, test)
    return TransferSplit(train=known, test=tested, classes=classes, note=note)


def _open_train(
    data: str, train_data: str | None, labels: Path | None, train_labels: Path | None
) -> Source:
    """Open the training images; without a table of their own they are looked up in `labels`.

    Raises:
        SubjectError: they are not in `labels`.
        SourceError: they are missing or damaged.
    """
    if train_data is not None or train_labels is not None:
        return open_source(train_data or data, split="train", labels=train_labels)
    try:
        return open_source(data, split="train", labels=labels)
    except SourceError as problem:
        if labels is None:
            raise
        raise SubjectError(f"{problem}; --train-labels takes those of the training split") from None


def _split_one(source: Source, seed: int, *, leave_one_out: bool) -> TransferSplit:
    """Return a set without splits as both sides, or divided in two."""
    classes = _count(source, source)
    source = for_head(source, classes, source.classes)
    assert source.labels is not None
    if leave_one_out:
        note = (
            f"{source.name}: training and test images are the same; each is classified by all "
            "others"
        )
        return TransferSplit(train=source, test=source, classes=classes, same=True, note=note)
    tested = hold_out(source.labels, source.ids, seed, TEST_SHARE)
    if not tested.any():
        raise SubjectError(
            f"{source.name}: training and test images are the same, one per class; name training "
            "images with --train-data"
        )
    train, test = (source.keep(np.flatnonzero(tested == side)) for side in (False, True))
    note = (
        f"{source.name}: training and test images are the same; {len(test):,} of {len(source):,}, "
        f"drawn by class (seed {seed}), are tested, the others trained on"
    )
    return TransferSplit(train=train, test=test, classes=classes, note=note)


def _labeled(source: Source) -> Source:
    if source.labels is None:
        raise SubjectError(
            f"{source.name}: transfer needs labels, which this source lacks; use class folders, "
            "or --labels CSV for a flat folder"
        )
    if source.single_labels is None:
        raise SubjectError(
            f"{source.name}: transfer needs one class of each image; leave out reassessed labels"
        )
    return source


def _count(train: Source, test: Source) -> int:
    """Return the number of classes: of the names, else of the labels."""
    names = train.classes or test.classes
    if names is not None:
        return len(names)
    assert train.labels is not None
    assert test.labels is not None
    return int(max(train.labels.max(), test.labels.max())) + 1


def _check_disjoint(train: Source, test: Source) -> str:
    """Return a note on images that are in both, compared by content.

    Raises:
        SubjectError: more than a few are.
    """
    shared = test.find_shared(train)
    if len(shared) > LEAK * len(test):
        raise SubjectError(
            f"{len(shared):,} of the {len(test):,} test images of {test.name} are also trained on "
            f"(first {shared[0]!r}); name other images with --train-data"
        )
    return f"{len(shared)} test images are in the training images as well" if shared else ""
