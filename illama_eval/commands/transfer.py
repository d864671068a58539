"""`illama-eval transfer`: features, a classifier on them, and the evaluation of its logits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from illama.distributed import World, join
from illama.sources.source import Source
from illama.sources.summary import describe_source
from illama_eval.commands.directories import default_out, name_images
from illama_eval.commands.evaluate import (
    is_finished,
    options_of,
    print_resume_command,
    run_and_report,
)
from illama_eval.commands.idle import refuse_split
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.progress import progress
from illama_eval.commands.resolve import Request, open_subjects, parse_batch_size
from illama_eval.commands.settings import remarks_on
from illama_eval.render.terminal.status import announced
from illama_eval.run.job import PrecomputedStudy
from illama_eval.studies import STUDIES
from illama_eval.study import StudyResult
from illama_eval.subjects.checkpoint import as_checkpoint, with_random_weights
from illama_eval.subjects.predictions import with_logits, with_probe
from illama_eval.subjects.subject import Subject, SubjectError, digest_of
from illama_eval.transfer.features import Features, Kind, check_kind, extract
from illama_eval.transfer.probe import (
    METRICS,
    STUDY,
    ProbeConfig,
    ProbeResult,
    ProbeTask,
    check_amounts,
    fit_neighbours,
    make_set,
    probe,
)
from illama_eval.transfer.splits import TransferSplit, open_split

MEASURED = ("accuracy", "calibration")
"""Studies of the transferred model."""
FEATURES = "features"
"""Folder of the kept features in a run directory."""
DIGITS = "digits"
"""Images of a transfer for which none are given."""
FIRST_LOOK = "no --data: scikit-learn's handwritten digits. --data takes what `list` shows"
"""Note on images that were not chosen by the user."""


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """Options of the command, beside those of the classifier."""

    train_data: str | None = None
    train_labels: Path | None = None
    train_limit: int | None = None
    control: bool = False
    cache: Path | None = None


def run_transfer(shared: SharedOptions, options: TransferOptions, config: ProbeConfig) -> int:
    """Probe the checkpoints' features on other images; return the exit code, 0 or 4.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    parse_batch_size(shared.batch_size)
    bases, split, note = open_task(shared, options, leave_one_out=config.probe == "knn")
    for base in bases:
        check_kind(base, config.kind)
    assert split.train.labels is not None
    labels = torch.from_numpy(split.train.labels)
    config, fitted = fit_neighbours(config, len(labels) - split.same)
    check_amounts(labels, split.classes, config, left_out=split.same)
    request = _plan(shared, options, bases, split, config)
    request = replace(request, note="\n".join(filter(None, (note, split.note, fitted))))
    with join(bases[0].device) as world:
        if not is_finished(shared, request):
            request = _fit(shared, options, request, bases, split, config, world)
        return run_and_report(shared, request)


def open_task(
    shared: SharedOptions, options: TransferOptions, *, leave_one_out: bool
) -> tuple[tuple[Subject, ...], TransferSplit, str]:
    """Return the models, the images, and a note if no images were given.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    if shared.class_subset is not None:
        raise SubjectError("--class-subset is for a model's own head; transfer has a new one")
    images = shared.choose_data(DIGITS) or DIGITS
    split = open_split(
        images,
        train_data=options.train_data,
        split=shared.split,
        labels=shared.labels,
        train_labels=options.train_labels,
        leave_one_out=leave_one_out,
        seed=shared.seed,
    )
    refuse_split(shared.split, split.test.name, split.test.split)
    note = FIRST_LOOK if images == DIGITS and shared.data is None else _describe(split)
    if shared.limit is not None:
        split = replace(split, test=split.test.limit(shared.limit, shared.seed))
    if options.train_limit is not None:
        split = replace(split, train=split.train.limit(options.train_limit, shared.seed))
    bases: tuple[Subject, ...] = open_subjects(shared)
    if options.control:
        first = as_checkpoint(bases[0], "--control needs a checkpoint of illama")
        bases = (*bases, with_random_weights(first, shared.seed))
    return bases, split, "\n".join((note, *remarks_on(bases)))


def _describe(split: TransferSplit) -> str:
    """Return what was found of the training and the test images, and the notes on them."""
    sources = (split.train,) if split.same else (split.train, split.test)
    found = [line for each in sources for line in (describe_source(each), *each.notes)]
    return "\n".join(dict.fromkeys(found))


def describe_train(source: Source) -> dict[str, Any]:
    """Return which images were trained on, for the header."""
    return {
        "name": source.name,
        "split": source.split,
        "images": len(source),
        "fingerprint": source.fingerprint,
    }


def name_directory(
    shared: SharedOptions,
    options: TransferOptions,
    bases: Sequence[Subject],
    split: TransferSplit,
    probe: str,
) -> Path:
    """Return the default directory of a transfer, named after both kinds of images."""
    images = name_images(split.test, shared)
    if split.train.name != split.test.name:
        images += f"-from-{split.train.name}"
    if options.train_limit is not None:
        images += f"-train{options.train_limit}"
    digests = [digest_of(base) for base in bases]
    return default_out([base.name for base in bases], digests, f"{STUDY}-{probe}", images)


def _plan(
    shared: SharedOptions,
    options: TransferOptions,
    bases: Sequence[Subject],
    split: TransferSplit,
    config: ProbeConfig,
) -> Request:
    """Return the request, without logits and results yet."""
    parameters = {**config.parameters(), "train": describe_train(split.train)}
    return Request(
        subjects=tuple(
            with_probe(base, config.probe, config.parameters(), number, split.classes)
            for number, base in enumerate(bases)
        ),
        source=split.test,
        studies=tuple(STUDIES[name]() for name in MEASURED),
        out=shared.out or name_directory(shared, options, bases, split, config.probe),
        precomputed=PrecomputedStudy(name=STUDY, metrics=METRICS, parameters=parameters),
    )


def _fit(
    shared: SharedOptions,
    options: TransferOptions,
    request: Request,
    bases: Sequence[Subject],
    split: TransferSplit,
    config: ProbeConfig,
    world: World,
) -> Request:
    """Return the request with the logits of the test images and the results of the probes."""
    assert request.precomputed is not None
    folder = options.cache or request.out / FEATURES
    results: dict[str, StudyResult] = {}
    logits: list[torch.Tensor] = []
    unreadable: dict[int, str] = {}
    for base, subject in zip(bases, request.subjects, strict=True):
        train, test = (
            _features(shared, base, source, config.kind, options.cache, folder, world)
            for source in (split.train, split.test)
        )
        log = Console(stderr=True, highlight=False)
        with announced(log, f"probing {base.name}") if world.is_main else nullcontext():
            found, made = _probe(base, split, train, test, config)
        results[subject.name] = found.result
        logits.append(made)
        unreadable.update(test.unreadable)
    source = with_logits(split.test, torch.stack(logits, dim=1).numpy(), tuple(unreadable.items()))
    precomputed = replace(request.precomputed, results=results)
    return replace(request, source=source, precomputed=precomputed)


def _probe(
    base: Subject, split: TransferSplit, train: Features, test: Features, config: ProbeConfig
) -> tuple[ProbeResult, torch.Tensor]:
    """Return the probe's result, and logits of every test image, NaN where unreadable."""
    known, tested = (
        make_set(source, features, base.device)
        for source, features in ((split.train, train), (split.test, test))
    )
    number = {one: index for index, one in enumerate(known.ids)}
    own = torch.tensor([number.get(one, -1) for one in tested.ids], device=base.device)
    task = ProbeTask(
        name=base.name,
        train=known,
        test=tested,
        classes=split.classes,
        own=own if split.same else None,
        unreadable=len(train.unreadable),
    )
    found = probe(task, config)
    logits = torch.full((len(split.test), split.classes), torch.nan, dtype=torch.float64)
    logits[torch.from_numpy(tested.positions)] = found.logits
    return found, logits


def _features(
    shared: SharedOptions,
    base: Subject,
    source: Source,
    kind: Kind,
    cache: Path | None,
    folder: Path,
    world: World,
) -> Features:
    """Return features of all images; under torchrun the first process extracts them."""
    log = Console(stderr=True, highlight=False)
    if world.is_main:
        given = replace(options_of(shared, source, base), cache=cache)
        with progress(log, given, f"reading {source.split} features of {base.name}") as options:
            try:
                extract(base, source, kind, folder, options)
            except SystemExit:
                print_resume_command(log)
                raise
    world.wait()
    return extract(base, source, kind, folder)
