"""Labels in the numbering of a model's head: class names are matched, indices are checked."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from illama.sources.imagenet import IMAGENET_CLASSES, imagenet_wnids, is_wnid, variant_of
from illama.sources.source import LabelError, Source, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SHOWN = 5
"""Most class names that a message lists."""
_SEPARATORS = re.compile(r"[\s_.\-]+")


def for_head(source: Source, classes: int, names: Sequence[str] | None = None) -> Source:
    """Return a source with its labels in the numbering of a head of `classes` outputs.

    Where the head has `names`, classes are matched by name: exactly, else without regard to case
    and separators. WordNet ids are names of the 1000 ImageNet classes. With a class subset, as
    many classes as it has indices are mapped to these in order. A head without names takes the
    classes in the source's order, and a note says so if that order is only the alphabet's. Images
    with cues whose categories are not the head's classes lose their labels, and keep their cues.

    Raises:
        LabelError: a class is unknown to the head, or their numbers differ, or a label is outside.
        SourceError: the class subset does not fit the head.
    """
    _check_subset(source, classes)
    if source.labels is None:
        return source
    if source.cues is not None and len(source.classes or ()) != classes:
        return source.without_labels("")
    numbering = _number(source.classes, source, classes, names)
    labels = source.labels
    if numbering.indices is not None:
        mapped = np.array(numbering.indices, np.int64)[labels]
        labels = labels if np.array_equal(mapped, labels) else mapped
    _check_labels(source, labels, classes)
    _check_reassessed(source, classes)
    fitted = replace(source, labels=labels, classes=numbering.names, numbered="")
    return fitted.noting(numbering.note)


class _Numbering(NamedTuple):
    """How the classes of a source become those of a head."""

    indices: Sequence[int] | None
    """The head's index of each class; None: labels are such indices already."""
    names: tuple[str, ...] | None
    """The names of the head's classes, if known."""
    note: str = ""


def _number(
    own: Sequence[str] | None, source: Source, classes: int, names: Sequence[str] | None
) -> _Numbering:
    """Return how the source's classes become the head's: by name, by subset, or in order."""
    head = None if names is None else tuple(names)
    if own is None:
        return _Numbering(None, head)
    known = _known_names(own, classes, head)
    if known is not None:
        indices, note = _match(source.name, own, known)
        if -1 not in indices:
            return _Numbering(indices, known, note or _variant_note(source, own))
    if source.class_subset is not None and len(own) == len(source.class_subset) != classes:
        return _Numbering(source.class_subset, head)
    numbers = [int(name) for name in own if name.isdecimal()]
    if sorted(numbers) == list(range(classes)) and len(own) == classes:
        return _Numbering(numbers, head or tuple(map(str, range(classes))))
    if known is not None:
        raise LabelError(_unknown(source.name, own, indices, known))
    if len(own) != classes:
        raise LabelError(
            f"{source.name} has {len(own)} classes ({_listed(own)}), the head has {classes}; use a"
            " set with the head's classes, or name the head's indices with a class subset"
        )
    return _Numbering(None, tuple(own), _order_note(source, own))


def _known_names(
    own: Sequence[str], classes: int, head: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Return the names to match: the head's, or those of ImageNet for a set of WordNet ids."""
    are_wnids = classes == IMAGENET_CLASSES and all(map(is_wnid, own))
    if are_wnids and not (head and set(own) & set(head)):
        return imagenet_wnids()
    return head


def _match(origin: str, own: Sequence[str], head: Sequence[str]) -> tuple[list[int], str]:
    """Return the head's index of each name, -1 where unknown, and a note on inexact matches.

    Raises:
        LabelError: a name fits several classes of the head, or two names fit one.
    """
    exact = {name: index for index, name in enumerate(head)}
    alike = defaultdict(list)
    for index, name in enumerate(head):
        alike[_normalised(name)].append(index)
    found = [[exact[name]] if name in exact else alike[_normalised(name)] for name in own]
    for name, candidates in zip(own, found, strict=True):
        if len(candidates) > 1:
            fitting = _listed([head[index] for index in candidates])
            raise LabelError(
                f"{origin}: class {name!r} fits several of the head's ({fitting}); give it the"
                " exact name of one"
            )
    indices = [candidates[0] if candidates else -1 for candidates in found]
    _check_distinct(origin, own, indices, head)
    inexact = [
        (name, head[index])
        for name, index in zip(own, indices, strict=True)
        if index >= 0 and name != head[index]
    ]
    if not inexact:
        return indices, ""
    return indices, (
        f"{len(inexact)} of {len(own)} class names of {origin} match the head's but for case and"
        f" separators, such as {inexact[0][0]!r} and {inexact[0][1]!r}"
    )


def _check_distinct(
    origin: str, own: Sequence[str], indices: Sequence[int], head: Sequence[str]
) -> None:
    """Refuse two classes of a source that fit one class of the head."""
    taken: dict[int, str] = {}
    for name, index in zip(own, indices, strict=True):
        if index >= 0 and index in taken:
            raise LabelError(
                f"{origin}: classes {taken[index]!r} and {name!r} both fit the head's"
                f" {head[index]!r}; join or rename them"
            )
        taken[index] = name


def _normalised(name: str) -> str:
    """Return a name without case and with one space for any separators."""
    return _SEPARATORS.sub(" ", name.casefold()).strip()


def _unknown(origin: str, own: Sequence[str], indices: Sequence[int], head: Sequence[str]) -> str:
    """Return the message on classes that the head does not have."""
    unknown = [name for name, index in zip(own, indices, strict=True) if index < 0]
    return (
        f"{origin}: {len(unknown)} of its {len(own)} classes are not among the head's {len(head)}"
        f" ({_listed(unknown)}; the head has {_listed(head)}); rename or remove them, or give the"
        " head's indices as a CSV of labels"
    )


def _variant_note(source: Source, own: Sequence[str]) -> str:
    """Return a note where published numbers are of fewer classes than the head has."""
    variant = "" if source.class_subset is not None else variant_of(own)
    if not variant:
        return ""
    return (
        f"{source.name} has the {len(own)} classes of {variant}; published numbers keep these"
        f" alone: --class-subset {variant}"
    )


def _order_note(source: Source, own: Sequence[str]) -> str:
    """Return a note on an order of classes that nothing confirms."""
    if not source.numbered:
        return ""
    first = ", ".join(f"{name} = {index}" for index, name in enumerate(own[:2]))
    last = f", ..., {own[-1]} = {len(own) - 1}" if len(own) > 2 else ""  # noqa: PLR2004 - all are shown
    return (
        f"classes of {source.name} are numbered {source.numbered}: {first}{last}; the head has no"
        " class names to compare with"
    )


def _listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def _check_subset(source: Source, classes: int) -> None:
    outside = next((i for i in source.class_subset or () if not 0 <= i < classes), None)
    if outside is not None:
        raise SourceError(
            f"class subset of {source.name}: index {outside} is outside the head of {classes}"
            " classes; list indices of this head"
        )


def _check_reassessed(source: Source, classes: int) -> None:
    if source.further_labels is not None and classes != IMAGENET_CLASSES:
        raise LabelError(
            f"{source.name}: reassessed labels are of ImageNet's {IMAGENET_CLASSES} classes, the"
            f" head has {classes}; leave out --labels"
        )


def _check_labels(source: Source, labels: NDArray[np.int64], classes: int) -> None:
    allowed = np.zeros(classes, bool)
    allowed[list(source.class_subset or range(classes))] = True
    inside = (labels >= 0) & (labels < classes)
    wrong = np.flatnonzero(~(inside & allowed[np.clip(labels, 0, classes - 1)]))
    if not wrong.size:
        return
    where = "the class subset" if source.class_subset else f"the head of {classes} classes"
    from_one = labels.min() == 1 and labels.max() == classes
    advice = (
        f"they count from 1 to {classes}, so subtract 1 from each"
        if from_one
        else "labels count from 0 in the head's numbering"
    )
    raise LabelError(
        f"{source.name}: label {labels[wrong[0]]} of {source.ids[wrong[0]]!r} is outside"
        f" {where} ({wrong.size} such images); {advice}"
    )
