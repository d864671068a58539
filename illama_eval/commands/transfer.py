"""Carry `illama-eval transfer` out: features, a classifier on them, and the normal pipeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from illama.distributed import World, join
from illama.sources.source import Source
from illama_eval.commands.evaluate import options_of, print_resume_command, progress, run_and_report
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.resolve import Request, default_out, open_subjects, parse_batch_size
from illama_eval.run import directory
from illama_eval.run.job import Job, Options, PrecomputedStudy
from illama_eval.studies import STUDIES
from illama_eval.study import StudyResult
from illama_eval.subjects.checkpoint import as_checkpoint, with_random_weights
from illama_eval.subjects.predictions import as_subject, with_logits
from illama_eval.subjects.subject import Subject, SubjectError, digest_of
from illama_eval.transfer.features import Features, Kind, Reading, check_kind, extract
from illama_eval.transfer.probe import (
    METRICS,
    STUDY,
    ProbeConfig,
    ProbeResult,
    ProbeTask,
    check_amounts,
    make_set,
    probe,
)
from illama_eval.transfer.splits import TransferSplit, open_pair

MEASURED = ("accuracy", "calibration")
"""Studies of the transferred model."""
FEATURES = "features"
"""Folder of the kept features in a run directory."""
FIRST_LOOK = "no --data: scikit-learn's handwritten digits. --data takes what `list` shows"


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """What the options of the command say, beside those of the classifier."""

    train_data: str | None = None
    train_limit: int | None = None
    control: bool = False
    cache: Path | None = None


def run_transfer(shared: SharedOptions, asked: TransferOptions, choices: ProbeConfig) -> int:
    """Probe the checkpoints' features on other images; return the exit code, 0 or 4.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    parse_batch_size(shared.batch_size)
    bases, pair, note = open_task(shared, asked, leave_one_out=choices.probe == "knn")
    for base in bases:
        check_kind(base, choices.kind)
    assert pair.train.labels is not None
    labels = torch.from_numpy(pair.train.labels)
    check_amounts(labels, pair.classes, choices, left_out=pair.same)
    request = _plan(shared, bases, pair, choices)
    request = replace(request, note="\n".join(filter(None, (note, pair.note))))
    with join(bases[0].device) as world:
        if not is_finished(shared, request):
            request = _fit(shared, asked, request, bases, pair, choices, world)
        return run_and_report(shared, request)


def open_task(
    shared: SharedOptions, asked: TransferOptions, *, leave_one_out: bool
) -> tuple[tuple[Subject, ...], TransferSplit, str]:
    """Return the models, the images, and a note where these were chosen for want of others.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    if shared.class_subset is not None:
        raise SubjectError("--class-subset is about a model's own head; transfer has a new one")
    given = shared.data or (os.environ.get("ILLAMA_DATA") if shared.checkpoints else None)
    pair = open_pair(
        given or "digits",
        train_data=asked.train_data,
        split=shared.split,
        labels=shared.labels,
        leave_one_out=leave_one_out,
        seed=shared.seed,
    )
    if shared.limit is not None:
        pair = replace(pair, test=pair.test.limit(shared.limit, shared.seed))
    if asked.train_limit is not None:
        pair = replace(pair, train=pair.train.limit(asked.train_limit, shared.seed))
    bases: tuple[Subject, ...] = open_subjects(shared)
    if asked.control:
        first = as_checkpoint(bases[0], "--control needs a checkpoint of illama")
        bases = (*bases, with_random_weights(first, shared.seed))
    return bases, pair, "" if given else FIRST_LOOK


def describe_train(source: Source) -> dict[str, Any]:
    """Return which images were learned from, for the header."""
    return {
        "name": source.name,
        "split": source.split,
        "images": len(source),
        "fingerprint": source.fingerprint,
    }


def is_finished(shared: SharedOptions, request: Request) -> bool:
    """Return whether the run lies in its directory already, and is to be shown again.

    Raises:
        ResultError: another run lies there.
    """
    if shared.overwrite or not shared.resume:
        return False
    job = Job(request.subjects, request.source, request.studies, Options(), World(), request.prior)
    return directory.finished_run(request.out, job.identity) is not None


def _plan(
    shared: SharedOptions, bases: Sequence[Subject], pair: TransferSplit, choices: ProbeConfig
) -> Request:
    """Return the request as it will be, but without logits and findings."""
    digests = [digest_of(base) for base in bases]
    command = f"{STUDY}-{choices.probe}-{pair.test.name}"
    parameters = {**choices.parameters(), "train": describe_train(pair.train)}
    return Request(
        subjects=tuple(
            as_subject(base, choices.probe, choices.parameters(), number, pair.classes)
            for number, base in enumerate(bases)
        ),
        source=pair.test,
        studies=tuple(STUDIES[name]() for name in MEASURED),
        out=shared.out or default_out([base.name for base in bases], digests, command),
        prior=PrecomputedStudy(name=STUDY, metrics=METRICS, parameters=parameters),
    )


def _fit(
    shared: SharedOptions,
    asked: TransferOptions,
    request: Request,
    bases: Sequence[Subject],
    pair: TransferSplit,
    choices: ProbeConfig,
    world: World,
) -> Request:
    """Return the request with the logits of the test images, and what fitting found."""
    assert request.prior is not None
    folder = asked.cache or request.out / FEATURES
    findings: dict[str, StudyResult] = {}
    logits: list[torch.Tensor] = []
    unreadable: dict[int, str] = {}
    for base, subject in zip(bases, request.subjects, strict=True):
        train = _features(shared, base, pair.train, choices.kind, folder, world)
        test = _features(shared, base, pair.test, choices.kind, folder, world)
        found, made = _probe(base, pair, train, test, choices)
        findings[subject.name] = found.findings
        logits.append(made)
        unreadable.update(test.unreadable)
    source = with_logits(pair.test, torch.stack(logits, dim=1).numpy(), tuple(unreadable.items()))
    prior = replace(request.prior, findings=findings)
    return replace(request, source=source, prior=prior)


def _probe(
    base: Subject, pair: TransferSplit, train: Features, test: Features, choices: ProbeConfig
) -> tuple[ProbeResult, torch.Tensor]:
    """Return what probing found, and the logits of every test image, NaN where unreadable."""
    known, tested = (
        make_set(source, features, base.device)
        for source, features in ((pair.train, train), (pair.test, test))
    )
    place = {one: number for number, one in enumerate(known.ids)}
    own = torch.tensor([place.get(one, -1) for one in tested.ids], device=base.device)
    task = ProbeTask(
        name=base.name,
        train=known,
        test=tested,
        classes=pair.classes,
        own=own if pair.same else None,
        unreadable=len(train.unreadable),
    )
    found = probe(task, choices)
    logits = torch.full((len(pair.test), pair.classes), torch.nan, dtype=torch.float64)
    logits[torch.from_numpy(tested.places)] = found.logits
    return found, logits


def _features(
    shared: SharedOptions, base: Subject, source: Source, kind: Kind, folder: Path, world: World
) -> Features:
    """Return features of all images; under torchrun the first process extracts them."""
    log = Console(stderr=True, highlight=False)
    if world.is_main:
        with progress(log, f"reading {source.split} features") as hooks:
            options = options_of(shared, source, base.device, hooks)
            reading = Reading(
                batch_size=options.batch_size,
                workers=options.workers,
                on_start=hooks.on_start,
                on_batch=hooks.on_batch,
            )
            try:
                extract(base, source, kind, folder, reading)
            except SystemExit:
                print_resume_command(log)
                raise
    world.wait()
    return extract(base, source, kind, folder)
