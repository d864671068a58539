"""The finished run of a job: header, rows, curves, verdicts and arrays from the summed totals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from illama.sources.source import Source
from illama_eval.results import ResultError, Row, Run, Verdict
from illama_eval.run import environment
from illama_eval.run.job import Job, Progress
from illama_eval.run.samples import ClassAttention, collect_samples
from illama_eval.statistics import student_interval
from illama_eval.study import Metric, StudyResult, counts_unreadable, tests_images
from illama_eval.subjects.checkpoint import ModelSubject

UNREADABLE_NAMED = 100
"""Unreadable images, and repeated ones, that the header names; all are counted."""
CLASSES_NAMED = 100
"""Class names that the header lists."""

REPEATED = "repeated pictures under other ids"
NOT_INDEPENDENT = "no interval: none is known where the images come in groups"
"""Why a number has none that has one where the images are independent."""
NOT_TESTED = "the test takes images for independent, and these come in groups"
"""Why there is no p, and no verdict by it."""

NamedResult: TypeAlias = tuple[str, str, StudyResult]
"""Name of the subject, name of the study, and the result."""
Unreadable: TypeAlias = Sequence[tuple[int, str]]
"""Positions and reasons."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """All that a run directory is written from."""

    run: Run
    timing: Run
    arrays: Mapping[str, dict[str, NDArray[Any]]]
    """Arrays of the .npz files, by stem."""


def finalize(job: Job, progress: Progress) -> FinishedRun:
    """Add over all processes and summarize; every process returns the same run.

    Raises:
        ResultError: no image could be read.
    """
    progress.totals = job.world.add_sums(progress.totals)
    unreadable = sorted(chain.from_iterable(job.world.collect(progress.unreadable)))
    if len(unreadable) == len(job.source):
        raise ResultError(
            f"{job.source.name}: none of its {len(unreadable)} images can be read "
            f"(first: {unreadable[0][1]})"
        )
    results = [
        (subject.name, study.name, study.summarize(progress.of(number, study.name)))
        for number, subject in enumerate(job.subjects)
        for study in job.studies_of[number]
    ]
    if job.precomputed is not None:
        results += [
            (name, job.precomputed.name, result) for name, result in job.precomputed.results.items()
        ]
    run = Run(
        header=_header(job, unreadable),
        rows=tuple(_rows(job, results, len(unreadable))),
        curves=tuple(
            replace(curve, subject=name, study=study)
            for name, study, result in results
            for curve in result.curves
        ),
        verdicts=tuple(
            replace(_judged(job, verdict), subject=name, study=study)
            for name, study, result in results
            for verdict in result.verdicts
        ),
    )
    mine = len(job.world.positions(len(job.source)))
    timing = environment.timing(job.subjects[0], progress, mine, run.header)
    return FinishedRun(run=run, timing=timing, arrays=_arrays(job, progress))


def _header(job: Job, unreadable: Unreadable) -> dict[str, Any]:
    """Return what was measured, on what and with what; no time, no path of this machine."""
    source = job.source
    named = [[source.ids[i], reason] for i, reason in unreadable[:UNREADABLE_NAMED]]
    repeated = find_repeats(source)
    return {
        **environment.describe(job.subjects[0].device),
        "identity": job.identity,
        "command": list(job.options.command),
        "subjects": [subject.describe() for subject in job.subjects],
        "source": {
            "name": source.name,
            "split": source.split,
            "images": len(source),
            "limit": job.options.limit,
            "seed": job.options.seed,
            "fingerprint": source.fingerprint,
            "classes": list((source.classes or ())[:CLASSES_NAMED]),
            "groups": {way: len(set(names)) for way, names in (source.groups or {}).items()},
            "left_out": [each._asdict() for each in source.left_out],
            "notes": [*source.notes, *filter(None, (repeats_in_words(repeated),))],
            "repeated": {"count": len(repeated), "first": repeated[:UNREADABLE_NAMED]},
        },
        "metrics": {
            name: {metric: asdict(declared) for metric, declared in metrics.items()}
            for name, metrics in _declared(job)
        },
        **_variable(job),
        "images_seen": len(source) - len(unreadable),
        "unreadable": {"count": len(unreadable), "first": named},
    }


def _variable(job: Job) -> dict[str, Any]:
    """Return what varies from subject to subject, with its value for each; else nothing."""
    variable, names = job.options.variable, [subject.name for subject in job.subjects]
    if variable is None:
        return {}
    reference = None if variable.reference is None else names[variable.reference]
    values = dict(zip(names, variable.values, strict=True))
    return {"variable": {"name": variable.name, "values": values, "reference": reference}}


def find_repeats(source: Source) -> list[list[str]]:
    """Return each picture that is there under another id already, with the first such id."""
    first: dict[str | int, str] = {}
    repeats = []
    for image_id, content in zip(source.ids, source.contents, strict=True):
        if isinstance(content, str) and content:
            known = first.setdefault(content, image_id)
            if known != image_id:
                repeats.append([image_id, known])
    return repeats


def repeats_in_words(repeated: Sequence[Sequence[str]]) -> str:
    """Return how many pictures are there twice, and which is the first; empty without any."""
    if not repeated:
        return ""
    again, first = repeated[0]
    return (
        f"{REPEATED}: {len(repeated)} (first: {again} is {first}); intervals take them for "
        "different images"
    )


def _declared(job: Job) -> Iterator[tuple[str, Mapping[str, Metric]]]:
    """Yield the names of the studies, the precomputed one included, with their metrics."""
    for study in job.studies:
        yield study.name, study.metrics
    if job.precomputed is not None:
        yield job.precomputed.name, job.precomputed.metrics


def _rows(job: Job, results: Iterable[NamedResult], unreadable: int) -> Iterator[Row]:
    """Yield all rows with subject, source and study filled in, their intervals by groups."""
    metrics = dict(_declared(job))
    counted = {study.name: counts_unreadable(study) for study in job.studies}
    groups = [len(set(names)) for names in (job.source.groups or {}).values()]
    for name, study, result in results:
        for given in result.rows:
            row = given
            if groups:
                row = with_group_interval(given, metrics[study][given.metric], min(groups))
            note = _over_all(row, unreadable) if row.metric in counted.get(study, ()) else ""
            yield replace(
                checked(row),
                subject=name,
                source=job.source.name,
                study=study,
                reason="; ".join(filter(None, (row.reason, note))),
            )


def _judged(job: Job, verdict: Verdict) -> Verdict:
    """Return the verdict; of images in groups, that a test of independent images is none."""
    tested = frozenset[str]().union(*map(tests_images, job.studies))
    if job.source.groups is None or verdict.name not in tested:
        return verdict
    return replace(verdict, verdict=f"not tested for {verdict.name}", reason=NOT_TESTED)


def checked(row: Row) -> Row:
    """Return a row, whose interval holds its value.

    Raises:
        ValueError: it does not; the study is wrong.
    """
    if row.value is None or row.low is None or row.high is None:
        return row
    if not row.low <= row.value <= row.high:
        raise ValueError(f"{row.metric} {row.value} is outside {row.low} to {row.high} ({row.at})")
    return row


def with_group_interval(row: Row, declared: Metric, groups: int) -> Row:
    """Return a row of images in groups: its interval comes from replicates, or there is none.

    Wilson's and other intervals of counts hold for independent images alone, and so do those of
    binned errors and of mean maps. The jackknife's replicates leave out images and not groups, so
    that they pair no runs; a p of independent images is none.
    """
    if declared.unit == "p":
        return replace(row, value=None, low=None, high=None, reason=NOT_TESTED)
    if declared.interval == "jackknife":
        row = replace(row, replicates=None)
    if row.low is None or row.value is None:
        return row
    if row.replicates is None or declared.interval in {"basic", "jackknife"}:
        return replace(row, low=None, high=None, reason=NOT_INDEPENDENT)
    low, high = student_interval(row.value, row.replicates, groups, skewed=False)
    least, largest = declared.ends
    low, high = min(max(low, least), row.value), max(min(high, largest), row.value)
    return replace(row, low=low, high=high)


def _over_all(row: Row, unreadable: int) -> str:
    """Return the accuracy with unreadable images counted as wrong, in words."""
    if not unreadable or row.value is None:
        return ""
    everything = row.images + unreadable
    over_all = row.value * row.images / everything
    return f"{unreadable} of {everything} images unreadable; {over_all:.6f} counting them wrong"


def _arrays(job: Job, progress: Progress) -> dict[str, dict[str, NDArray[Any]]]:
    """Return per_image (records, [subject, image]) and, where kept, samples."""
    records = [_records(job, progress, number) for number in range(len(job.subjects))]
    common = [name for name in records[0] if all(name in each for each in records)]
    arrays: dict[str, dict[str, NDArray[Any]]] = {
        "per_image": {
            "ids": np.array(job.source.ids, dtype=np.str_),
            "subjects": np.array([each.name for each in job.subjects], dtype=np.str_),
            **{name: np.stack([each[name] for each in records]) for name in common},
        }
    }
    shown, first = progress.of(0, ClassAttention.name), job.subjects[0]
    if shown and isinstance(first, ModelSubject):
        predictions = records[0].get("prediction")
        arrays["samples"] = collect_samples(job.source, first, shown, predictions)
    return arrays


def _records(job: Job, progress: Progress, number: int) -> dict[str, NDArray[Any]]:
    """Return one subject's records, one number per image; studies that share one agree."""
    return {
        key.removeprefix("image/"): value.numpy()
        for study in job.studies_of[number]
        for key, value in progress.of(number, study.name).items()
        if key.startswith("image/") and (value.ndim == 1 or value.dtype == torch.int64)
    }
