"""Which options reach which model: settings of one checkpoint, options of all, and remarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from illama.checkpoint.assumptions import transform_overrides
from illama.exits import UsageError
from illama.preprocessing import TransformOptions
from illama_eval.commands.checkpoints import (
    TRANSFORM,
    CheckpointArgument,
    parse_all,
    transform_options,
)
from illama_eval.commands.options import SharedOptions
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint
from illama_eval.subjects.network import NetworkSubject
from illama_eval.subjects.subject import Subject, SubjectError

LOADED = ("soft_mask", "heads", "masking", "image_size", "key")
"""Options of loading that may be given to one checkpoint, too; `ema` is the other."""

Opened = ModelSubject | NetworkSubject
"""Subjects of the command line: each has a transform, and provenance that notes what is changed."""


def open_checkpoints(
    shared: SharedOptions, paths: Sequence[Path], same: Mapping[str, Any]
) -> Iterator[ModelSubject]:
    """Yield the checkpoints, each with the options and its own settings, which come first.

    Raises:
        UsageError: a setting is unknown or out of range, or an option fits some checkpoints and
            would change others.
        CheckpointError: a file is refused.
        SubjectError: an option is for checkpoints, and there are none.
    """
    given = {name: value for name in LOADED if (value := getattr(shared, name)) is not None}
    idle = sorted(set(given) - {"image_size"})
    if idle and not paths:
        raise SubjectError(f"--{idle[0].replace('_', '-')} is for checkpoints; none is given")
    arguments = parse_all(paths)
    opened = [
        open_checkpoint(
            each.path,
            **{**same, **given, **each.settings},
            transform=transform_options(transform_words(shared), each.transform),
        )
        for each in arguments
    ]
    for name in (*LOADED, *TRANSFORM):
        if getattr(shared, name) is not None:
            _check_reach(name, getattr(shared, name), arguments, opened)
    yield from opened


def segmenters_of(shared: SharedOptions, default: Path) -> list[tuple[Path, float | None]]:
    """Return the segmenters of a command line, each with the soft mask that is given for it.

    Raises:
        UsageError: another option or setting of a model is given, which segmenters do not take.
    """
    others = [*TRANSFORM, *(name for name in LOADED if name != "soft_mask"), "models", "weights"]
    for name in others:
        if getattr(shared, name) is not None:
            flag = {"models": "model"}.get(name, name).replace("_", "-")
            raise UsageError(f"--{flag} is not for segmenters, which have their own; leave it out")
    arguments = parse_all(shared.checkpoints or [default])
    for each in arguments:
        foreign = sorted({*each.settings, *each.transform} - {"soft_mask"})
        if foreign:
            raise UsageError(f"{each.path}:{foreign[0]}: a segmenter takes soft_mask alone")
    return [(each.path, each.settings.get("soft_mask", shared.soft_mask)) for each in arguments]


def transform_words(shared: SharedOptions) -> dict[str, str | None]:
    """Return the options of the transform as they were given.

    Raises:
        UsageError: `--preprocess` decides one of them.
    """
    words = {name: getattr(shared, name) for name in TRANSFORM}
    if shared.preprocess != "model":
        for name in ("crop", "interpolation"):
            if words[name] is not None:
                raise UsageError(
                    f"--{name}: --preprocess {shared.preprocess} has its own; drop one"
                )
    return words


def with_transform(subject: Opened, options: TransformOptions) -> Opened:
    """Return a model with its transform changed by the options, and what they override."""
    chosen = subject.transform.with_options(options)
    changed = [each.to_dict() for each in transform_overrides(subject.transform, chosen)]
    before = subject.provenance.get("overrides") or []
    provenance = {**subject.provenance, "overrides": [*before, *changed]}
    return replace(subject, transform=chosen, provenance=provenance) if changed else subject


def remarks_on(subjects: Sequence[Subject]) -> list[str]:
    """Return what was assumed of each subject, and what options override, one line each."""
    lines = []
    for subject in subjects:
        described = subject.describe()
        for kind, verb in (("assumptions", "assumed"), ("overrides", "changed")):
            found = described.get(kind) or ()
            lines += [f"{subject.name}: {verb}: {each['text']}" for each in found]
    return lines


def _check_reach(
    name: str,
    value: object,
    arguments: Sequence[CheckpointArgument],
    opened: Sequence[ModelSubject],
) -> None:
    """Refuse an option for all checkpoints that overrides what some say and agrees with others."""
    changed, fitting = {}, []
    for argument, subject in zip(arguments, opened, strict=True):
        if name not in argument.settings and name not in argument.transform:
            own = _own(subject, name)
            if own is None:
                fitting.append(argument.path)
            else:
                changed[argument.path] = own
    if changed and fitting:
        (other, own), *_ = changed.items()
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        raise UsageError(
            f"--{name.replace('_', '-')} {shown} fits {fitting[0].name} and would change "
            f"{other.name}, whose own is {own}; give it to one alone, as "
            f"{fitting[0]}:{name}={shown}"
        )


def _own(subject: ModelSubject, name: str) -> str | None:
    """Return what a checkpoint's own file says, where an option overrides it."""
    overrides = subject.provenance.get("overrides") or ()
    return next((str(each["own"]) for each in overrides if each["what"] == name), None)
