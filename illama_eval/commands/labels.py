"""Labels for the heads that are measured, and what can't be measured without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illama.sources.head import for_head
from illama.sources.source import LabelError, Source
from illama_eval.study import Study
from illama_eval.subjects.subject import Subject, class_names_of

LACKING: Mapping[str, str] = {
    "labels": "which this source lacks for this head; use class folders, or --labels CSV",
    "single_labels": "which this source lacks: an image has several classes; leave out --labels",
    "cues": "which this source lacks; use cue-conflict pictures: SHAPE/SHAPE1-TEXTURE2.jpg",
}
"""Fields that a source may lack -> why that matters and what to do."""


def fit_labels(source: Source, subjects: Sequence[Subject], *, needed: bool) -> Source:
    """Return the source with labels in the numbering of the subjects' heads.

    Labels that do not fit are left out with a note, unless they are needed.

    Raises:
        LabelError: labels are needed, and do not fit, or the heads number classes differently.
        SourceError: the class subset does not fit.
    """
    try:
        return _fit(source, subjects)
    except LabelError as problem:
        if needed:
            raise
        _fit(source.without_labels(""), subjects)
        return source.without_labels(f"labels are left out: {problem}")


def order_difference(subjects: Sequence[Subject]) -> str:
    """Return in words how two heads number the same number of classes; empty if all agree."""
    named = [(each.name, names) for each in subjects if (names := class_names_of(each)) is not None]
    for name, names in named[1:]:
        first, theirs = named[0]
        if names == theirs or len(names) != len(theirs):
            continue
        other = next(i for i in range(len(names)) if names[i] != theirs[i])
        return (
            f"{first} and {name} number their classes differently ({other} is {theirs[other]!r}"
            f" and {names[other]!r})"
        )
    return ""


def left_out_notes(studies: Sequence[Study], source: Source) -> list[str]:
    """Return which studies a source cannot feed, and what would bring them back."""
    by_field: dict[str, list[str]] = {}
    for study in studies:
        lacking = source.lacks(study.requires)
        if lacking:
            by_field.setdefault(lacking, []).append(study.name)
    return [
        f"left out: {', '.join(names)}; {'it needs' if len(names) == 1 else 'they need'} {lacking},"
        f" {LACKING[lacking]}"
        for lacking, names in by_field.items()
    ]


def _fit(source: Source, subjects: Sequence[Subject]) -> Source:
    """Return the source in the numbering of all heads, those with class names first."""
    differing = order_difference(subjects)
    if differing and source.labels is not None:
        raise LabelError(f"{differing}; measure them one by one")
    names = [class_names_of(subject) for subject in subjects]
    order = sorted(range(len(subjects)), key=lambda number: names[number] is None)
    for number in order:
        source = for_head(source, subjects[number].classes, names[number])
    named, *unnamed = (subjects[number].name for number in order)
    if source.labels is None or names[order[0]] is None:
        return source
    return source.noting(
        *(
            f"{each} has no class names; its classes are taken in the order of {named}'s"
            for each, number in zip(unnamed, order[1:], strict=True)
            if names[number] is None
        )
    )
