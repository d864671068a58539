"""From a command's options to a request: subjects, source, studies and run directory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from illama.distributed import choose_device
from illama.exits import UsageError
from illama.sources import open_source
from illama.sources.source import Source
from illama.sources.summary import describe_source
from illama.suggestions import did_you_mean
from illama_eval.commands.checkpoints import transform_options
from illama_eval.commands.directories import default_out, name_images
from illama_eval.commands.idle import ALL_BUT_LIMIT, OF_IMAGES, refuse_idle, refuse_split
from illama_eval.commands.labels import LACKING, fit_labels, left_out_notes, order_difference
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.settings import (
    open_checkpoints,
    remarks_on,
    transform_words,
    with_transform,
)
from illama_eval.cue_conflict import (
    CueConflictError,
    Decisions,
    choose_categories,
    number_decisions,
    read_observers,
)
from illama_eval.run.job import PrecomputedStudy, Variable, unseen
from illama_eval.studies import STUDIES
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.study import Study, needs
from illama_eval.subjects import huggingface
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT, ModelSubject
from illama_eval.subjects.network import NetworkSubject
from illama_eval.subjects.predictions import open_predictions
from illama_eval.subjects.subject import Subject, SubjectError, digest_of, unique_names
from illama_eval.subjects.timm import open_timm
from illama_eval.subjects.timm_models import PRETRAINED, RANDOM

FIRST_LOOK = (
    "no --data: a first look on 30 crops of scikit-learn's two photographs. --data takes a folder "
    "of images, .tar shards, CIFAR, .npz, or a name from `illama-eval list`"
)
"""Note on images that were not chosen by the user."""
EVERYTHING = frozenset({"run", "quantize", "sweep", "trajectory"})
"""Commands that measure all that fits, and leave out what does not."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be measured: the options, resolved."""

    subjects: tuple[Subject, ...]
    source: Source
    studies: tuple[Study, ...]
    out: Path
    note: str = ""
    precomputed: PrecomputedStudy | None = None
    variable: Variable | None = None
    """What differs from subject to subject, where one model is measured over a range of it."""


@dataclass(frozen=True, kw_only=True)
class ShapeBiasInputs:
    """Options of shape bias: categories and observers."""

    categories: Path | None = None
    """JSON of name: [indices of the head]; None: those known for the head."""
    observers: tuple[Path, ...] = ()
    """Tables of decisions (CSV)."""

    def read(self) -> Decisions | None:
        """Return the decisions of all observers, or None where there are none.

        Raises:
            SubjectError: a table is missing or damaged.
        """
        return read_observers(self.observers) if self.observers else None

    def fit(self, study: ShapeBias, source: Source, subjects: Sequence[Subject]) -> ShapeBias:
        """Return the study for the subjects' head and the source's cues, with the observers.

        Raises:
            SubjectError: the heads differ, or an observer decides on other categories.
            CueConflictError: the head's classes make up no known categories, or not those.
        """
        heads = sorted({subject.classes for subject in subjects})
        if len(heads) > 1:
            raise SubjectError(
                f"shape_bias: heads of {heads[0]} and {heads[1]} classes; measure them one by one"
            )
        categories = choose_categories(
            source.categories or (), heads[0], table=self.categories, own=source.name == "demo"
        )
        decisions = self.read()
        names = [name for name, _ in categories]
        observers = () if decisions is None else number_decisions(decisions, names)
        return replace(study, categories=categories, observers=observers)


def resolve(
    shared: SharedOptions,
    command: str,
    parameters: Mapping[str, Mapping[str, Any] | Study],
    predictions: Path | None = None,
    cues: ShapeBiasInputs | None = None,
    opened: Sequence[Subject] | None = None,
    source: Source | None = None,
    demo: str | None = "demo",
) -> Request:
    """Return the subjects, the source, the studies and the directory that the options mean.

    `parameters` has the parameters of each study by its name, or the study itself. `opened` are
    subjects, and `source` a source, that are open already, in place of those that the options name.
    `demo` names the images of the bundled checkpoint; None if it is not what is measured.

    Raises:
        SubjectError: labels are needed and the source has none, or an option does not fit.
        SourceError: the images cannot be read or do not fit the head.
        CheckpointError: a checkpoint is refused.
        UsageError: a parameter of a study is out of its range.
    """
    parse_batch_size(shared.batch_size)
    studies = tuple(
        _make_study(name, given) if isinstance(given, Mapping) else given
        for name, given in parameters.items()
    )
    if predictions is not None:
        if shared.checkpoints or shared.models:
            raise SubjectError("give either a checkpoint or --predictions, not both")
        refuse_idle(shared.given, ALL_BUT_LIMIT, "--predictions")
        saved, rows = open_predictions(predictions)
        digest = hashlib.sha256(predictions.read_bytes()).hexdigest()
        rows = _limited(rows, shared)
        images = name_images(rows, shared)
        out = shared.out or default_out([predictions.stem], [digest], command, images)
        return Request(subjects=(saved,), source=rows, studies=studies, out=out)
    everything = command in EVERYTHING
    found, note = (
        (source, "") if source else choose_source(shared, studies, demo, everything=everything)
    )
    subjects = tuple(opened) if opened else open_subjects(shared)
    needed = not everything and any("labels" in study.requires for study in studies)
    with_heads = [subject for subject in subjects if subject.classes]
    numbered = fit_labels(found, with_heads, needed=needed) if with_heads else found
    source = _limited(numbered, shared)
    fitted, unfit = _fit(
        studies, source, subjects, cues or ShapeBiasInputs(), everything=everything
    )
    studies, notes = _leave_out(fitted, subjects, everything=everything)
    other_heads = len({subject.classes for subject in subjects}) > 1 or order_difference(subjects)
    if other_heads or len(subjects) == 1:
        studies = tuple(study for study in studies if study.name != "agreement")
    digests = [digest_of(subject) for subject in subjects]
    names = [subject.name for subject in subjects]
    out = shared.out or default_out(names, digests, command, name_images(source, shared))
    described = describe_source(found) if shared.data else ""
    remarks = (*source.notes, *unfit, *notes, *remarks_on(subjects))
    note = "\n".join(filter(None, (note, described, *remarks)))
    return Request(subjects=subjects, source=source, studies=studies, out=out, note=note)


def check_study_names(names: Iterable[str]) -> None:
    """Raise unless there is a study of every name.

    Raises:
        SubjectError: there is none of that name.
    """
    for name in names:
        if name not in STUDIES:
            known = ", ".join(STUDIES)
            raise SubjectError(f"no study {name!r}{did_you_mean(name, STUDIES)}; there are {known}")


def _make_study(name: str, parameters: Mapping[str, Any]) -> Study:
    """Return the study of these parameters.

    Raises:
        UsageError: one is out of its range.
    """
    try:
        return STUDIES[name](**parameters)
    except ValueError as problem:
        raise UsageError(str(problem)) from None


def _fit(
    studies: Sequence[Study],
    source: Source,
    subjects: Sequence[Subject],
    cues: ShapeBiasInputs,
    *,
    everything: bool,
) -> tuple[list[Study], list[str]]:
    """Return the studies that the source can feed, and notes on those that are left out.

    Raises:
        SubjectError: a study that was named cannot be made.
        CueConflictError: the head's classes make up no known categories, or not those.
    """
    kept: list[Study] = []
    notes = left_out_notes(studies, source) if everything else []
    for study in studies:
        lacking = source.lacks(study.requires)
        if lacking and not everything:
            raise SubjectError(f"{source.name}: {study.name} needs {lacking}, {LACKING[lacking]}")
        try:
            if lacking:
                continue
            if isinstance(study, ShapeBias):
                kept.append(cues.fit(study, source, subjects))
            else:
                kept.append(study)
        except CueConflictError as problem:
            if not everything:
                raise
            notes.append(f"{study.name} is left out: {problem}")
    return kept, notes


def _leave_out(
    studies: Sequence[Study], subjects: Sequence[Subject], *, everything: bool
) -> tuple[tuple[Study, ...], list[str]]:
    """Return the studies that some subject can feed, and notes on those that one cannot.

    Raises:
        SubjectError: a study that was named cannot be made.
    """
    notes = []
    for subject in subjects:
        blind = [study for study in studies if not needs(study) <= subject.shows]
        if blind and not everything:
            raise SubjectError(unseen(blind[0], subject))
        if blind:
            names = ", ".join(study.name for study in blind)
            notes.append(f"{unseen(blind[0], subject)}; left out of it: {names}")
    made = [s for s in studies if any(needs(s) <= subject.shows for subject in subjects)]
    return tuple(made), notes


def open_subjects(shared: SharedOptions) -> tuple[ModelSubject | NetworkSubject, ...]:
    """Return the checkpoints, then the other models, as subjects with names that differ.

    Raises:
        CheckpointError: a file is refused.
        SubjectError: another model cannot be loaded.
    """
    pairs = _pair_weights(shared)
    paths = shared.checkpoints or ([] if pairs else [DEMO_CHECKPOINT])
    options = transform_options(transform_words(shared))
    others = [_open_other(shared, model, weights) for model, weights in pairs]
    subjects = [
        *open_checkpoints(shared, paths),
        *(with_transform(each, options) for each in others),
    ]
    digests = [digest_of(subject) for subject in subjects]
    names = unique_names([subject.name for subject in subjects], digests)
    return tuple(replace(each, name=name) for each, name in zip(subjects, names, strict=True))


def _open_other(shared: SharedOptions, model: str, weights: str) -> ModelSubject | NetworkSubject:
    """Return a model of timm, or of a folder of Hugging Face.

    Raises:
        SubjectError: it is not found, or cannot be run.
        CheckpointError: its weights are refused.
    """
    given: dict[str, Any] = {
        "device": choose_device(shared.device),
        "dtype": shared.dtype,
        "preprocess": shared.preprocess,
        "compiled": shared.compiled,
        "image_size": shared.image_size,
    }
    if not model.startswith(huggingface.PREFIX):
        return open_timm(model, weights, ema=shared.ema, **given)
    if weights != PRETRAINED:
        raise SubjectError(
            f"--model {model}: its weights are in the folder; give {PRETRAINED} for --weights"
        )
    if shared.ema:
        raise SubjectError(
            f"--ema: {model} has no averaged weights; give it to a checkpoint alone, as FILE:ema=1"
        )
    return huggingface.open_huggingface(model, **given)


def _pair_weights(shared: SharedOptions) -> list[tuple[str, str]]:
    """Return the other models, each with its weights.

    Raises:
        SubjectError: there are not as many weights as models.
    """
    models, weights = shared.models or [], shared.weights or []
    if weights and len(weights) != len(models):
        raise SubjectError(
            f"{len(models)} --model and {len(weights)} --weights; give one --weights for each "
            f"--model, in their order: a file, {PRETRAINED} or {RANDOM}"
        )
    return list(zip(models, weights or [PRETRAINED] * len(models), strict=True))


def choose_source(
    shared: SharedOptions, studies: Sequence[Study], demo: str | None, *, everything: bool
) -> tuple[Source, str]:
    """Return the source before any limit, and a note if no data was given.

    `demo` names the images of the bundled checkpoint. With `everything`, studies that lack labels
    are left out.

    Raises:
        SubjectError: labels are needed, and no images were given.
        SourceError: the images cannot be read.
    """
    spec = shared.choose_data(demo)
    if spec is not None:
        source = open_source(
            spec, split=shared.split, labels=shared.labels, class_subset=shared.class_subset
        )
        refuse_split(shared.split, source.name, source.split)
        return source, ""
    asking = next((study for study in studies if study.requires), None)
    if not everything and asking is not None:
        raise SubjectError(
            f"no --data: {asking.name} needs images with {min(asking.requires)}; --data takes a "
            "folder of class folders, .tar shards, CIFAR, .npz, or a name from `illama-eval list`"
        )
    refuse_idle(shared.given, OF_IMAGES, "a first look without --data")
    return open_source("photos"), FIRST_LOOK


def _limited(source: Source, shared: SharedOptions) -> Source:
    return source if shared.limit is None else source.limit(shared.limit, shared.seed)


def parse_batch_size(given: str) -> int | None:
    """Return the images per pass; None for `auto`.

    Raises:
        typer.BadParameter: it is neither `auto` nor a positive whole number.
    """
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise typer.BadParameter(
            f"{given} is neither auto nor a positive whole number", param_hint="--batch-size"
        )
    return int(given)
