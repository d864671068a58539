"""Which options reach which model: settings of one checkpoint, options of all, and remarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from illama.checkpoint.assumptions import transform_overrides
from illama.distributed import choose_device
from illama.exits import UsageError
from illama.preprocessing import TransformOptions
from illama_eval.commands.checkpoints import (
    LOADED,
    TRANSFORM,
    CheckpointArgument,
    parse_all,
    transform_options,
)
from illama_eval.commands.idle import OF_MODELS, OF_TRANSFORM, refuse_idle
from illama_eval.commands.options import SharedOptions
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint
from illama_eval.subjects.network import NetworkSubject
from illama_eval.subjects.segmenter import SegmenterSubject, open_segmenter
from illama_eval.subjects.subject import Subject, SubjectError, digest_of, unique_names

Opened = ModelSubject | NetworkSubject
"""Subjects of the command line: each has a transform, and provenance that notes what is changed."""

_NAMED = 2
"""Models that a remark names."""


def open_one(
    shared: SharedOptions,
    argument: CheckpointArgument,
    name: str | None = None,
    **changes: float | None,
) -> ModelSubject:
    """Return a checkpoint with the options; its own settings come first, and `changes` before them.

    Raises:
        UsageError: an option or a setting of the transform is not what it takes.
        CheckpointError: the file is refused.
    """
    return open_checkpoint(
        argument.path,
        device=choose_device(shared.device),
        dtype=shared.dtype,
        preprocess=shared.preprocess,
        compiled=shared.compiled,
        transform=transform_options(transform_words(shared), argument.transform),
        name=name,
        **{"ema": shared.ema, **_given(shared), **argument.settings, **changes},
    )


def open_checkpoints(shared: SharedOptions, paths: Sequence[Path]) -> Iterator[ModelSubject]:
    """Yield the checkpoints, each with the options and its own settings, which come first.

    Raises:
        UsageError: a setting is unknown or out of range, or an option fits some checkpoints and
            would change others.
        CheckpointError: a file is refused.
        SubjectError: an option is for checkpoints, and there are none.
    """
    idle = sorted(set(_given(shared)) - {"image_size"})
    if idle and not paths:
        raise SubjectError(f"--{idle[0].replace('_', '-')} is for checkpoints; none is given")
    arguments = parse_all(paths)
    opened = [open_one(shared, each, _name_of(each, arguments)) for each in arguments]
    for name in (*LOADED, *TRANSFORM):
        if getattr(shared, name) is not None:
            _check_reach(name, getattr(shared, name), arguments, opened)
    yield from opened


def open_segmenters(shared: SharedOptions, default: Path) -> list[SegmenterSubject]:
    """Return the segmenters of a command line, with names that differ.

    Raises:
        UsageError: another option or setting of a model is given, which segmenters do not take, or
            the soft mask fits some and would change others.
        CheckpointError: a file is refused, or has no segmentation head.
    """
    idle = {"labels", "class_subset", "compiled", *OF_TRANSFORM, *OF_MODELS} - {"soft_mask"}
    refuse_idle(shared.given, idle, "a segmenter, which has its own")
    arguments = parse_all(shared.checkpoints or [default])
    for each in arguments:
        foreign = sorted({*each.settings, *each.transform} - {"soft_mask"})
        if foreign:
            raise UsageError(f"{each.path}:{foreign[0]}: a segmenter takes soft_mask alone")
    given = {} if shared.soft_mask is None else {"soft_mask": shared.soft_mask}
    device = choose_device(shared.device)
    opened = [
        open_segmenter(each.path, device=device, dtype=shared.dtype, **{**given, **each.settings})
        for each in arguments
    ]
    for name, value in given.items():
        _check_reach(name, value, arguments, opened)
    names = unique_names([each.name for each in opened], [digest_of(each) for each in opened])
    return [replace(each, name=name) for each, name in zip(opened, names, strict=True)]


def refuse_idle_seed(shared: SharedOptions) -> None:
    """Refuse a seed where nothing is drawn.

    Raises:
        UsageError: `--seed` was given without `--limit`.
    """
    if shared.limit is None:
        refuse_idle(shared.given, {"seed"}, "a command without --limit")


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
    """Return what was assumed of subjects, and what options override, each said once."""
    names: dict[str, list[str]] = {}
    for subject in subjects:
        described = subject.describe()
        for kind, verb in (("assumptions", "assumed"), ("overrides", "changed")):
            for each in described.get(kind) or ():
                names.setdefault(f"{verb}: {each['text']}", []).append(subject.name)
    return [f"{_shorten(found)}: {remark}" for remark, found in names.items()]


def _shorten(names: Sequence[str]) -> str:
    """Return the names, of many the first and how many more."""
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{names[0]} and {len(names) - 1} more"


def _given(shared: SharedOptions) -> dict[str, Any]:
    """Return the options of loading that are given, by name."""
    return {name: value for name in LOADED if (value := getattr(shared, name)) is not None}


def _name_of(argument: CheckpointArgument, arguments: Sequence[CheckpointArgument]) -> str:
    """Return the file's stem; of a file that is given several times, with its settings."""
    again = sum(each.path == argument.path for each in arguments) > 1
    own = {**argument.settings, **argument.transform} if again else {}
    return " ".join((argument.path.stem, *(f"{key}={value}" for key, value in own.items())))


def _check_reach(
    name: str, value: object, arguments: Sequence[CheckpointArgument], opened: Sequence[Subject]
) -> None:
    """Refuse an option for all checkpoints that overrides what some say and agrees with others."""
    free = [
        (argument.path, _own(subject, name))
        for argument, subject in zip(arguments, opened, strict=True)
        if name not in argument.settings and name not in argument.transform
    ]
    _refuse_partial(name, value, free)


def _refuse_partial(name: str, value: object, reached: Sequence[tuple[Path, str | None]]) -> None:
    """Refuse a value for all files that differs from what some say: None where it agrees."""
    changed = {path: own for path, own in reached if own is not None}
    fitting = [path for path, own in reached if own is None]
    if changed and fitting:
        (other, own), *_ = changed.items()
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        raise UsageError(
            f"--{name.replace('_', '-')} {shown} fits {fitting[0].name} and would change "
            f"{other.name}, whose own is {own}; give it to one alone, as "
            f"{fitting[0]}:{name}={shown}"
        )


def _own(subject: Subject, name: str) -> str | None:
    """Return what a checkpoint's own file says, where an option overrides it."""
    overrides = subject.describe().get("overrides") or ()
    return next((str(each["own"]) for each in overrides if each["what"] == name), None)
