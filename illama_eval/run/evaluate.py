"""`evaluate`: measure subjects on a source in one pass, and write the run directory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from illama.distributed import join
from illama.interruption import Interrupted, deferring
from illama.sources.source import Source
from illama_eval.results import Run
from illama_eval.run import directory
from illama_eval.run.finalize import finalize
from illama_eval.run.job import Job, Options, PrecomputedStudy, Progress
from illama_eval.run.loop import automatic_batch_size, observe_source
from illama_eval.study import Study
from illama_eval.subjects.subject import Subject

__all__ = ["Interrupted", "Options", "evaluate"]

PARTIAL_SHARE = 0.05
"""Largest share of the time that may go into saving partials."""


def evaluate(
    subject: Subject | Sequence[Subject],
    source: Source,
    studies: Sequence[Study],
    out: Path | None = None,
    options: Options | None = None,
    precomputed: PrecomputedStudy | None = None,
) -> Run:
    """Measure subjects on a source with all studies in one pass.

    `precomputed` is a study that was computed before; its results become part of the run.

    With `out`, the run directory is written there, and an interrupted run in it is continued.
    Under torchrun every process measures its share, and all return the same run.

    Raises:
        ResultError: `out` is in use or holds another run, or no image could be read.
        Interrupted: a signal came; a partial was saved.
        ValueError: a study needs labels that the source lacks.
    """
    subjects = tuple(subject) if isinstance(subject, Sequence) else (subject,)
    with join(subjects[0].device) as world:
        job = Job(subjects, source, tuple(studies), options or Options(), world, precomputed)
        if out is None:
            return finalize(job, _fold(job, None)).run
        return _lead(job, out) if world.is_main else _follow(job, out)


def _lead(job: Job, out: Path) -> Run:
    """Measure this process's share, and write what all have measured."""
    with directory.owned(out):
        stored = _prepare(job, out)
        job.world.collect(stored is not None)
        if stored is not None:
            if job.options.on_stored:
                job.options.on_stored()
            return stored
        finished = finalize(job, _fold(job, out))
        return directory.write_run(out, finished.run, finished.timing, finished.arrays)


def _prepare(job: Job, out: Path) -> Run | None:
    """Prepare the directory; return the finished run if it has one."""
    if job.options.overwrite:
        directory.clear(out)
    stored = directory.finished_run(out, job.identity, job.images)
    if job.options.resume:
        return stored
    directory.clear_partials(out)
    return None


def _follow(job: Job, out: Path) -> Run:
    """Measure this process's share for the first process, which owns the directory."""
    if job.world.collect(False)[0]:
        return Run.load(out)
    return finalize(job, _fold(job, out)).run


def _fold(job: Job, out: Path | None) -> Progress:
    """Measure this process's images, saving partials into `out` on the way."""
    path = out and directory.partial_path(out, job.world.rank, job.world.size)
    progress = _begin(job, path)
    saver = _Saver(job, progress, path)
    mine = len(job.world.positions(len(job.source)))
    if job.options.on_start:
        job.options.on_start(mine, min(mine, progress.next_batch * progress.batch_size))
    with deferring() as interruption, saver:
        for step in observe_source(
            job.subjects,
            job.source,
            job.wanted,
            job.measure,
            batch_size=progress.batch_size,
            chunk=progress.chunk,
            workers=job.options.workers,
            world=job.world,
            first=progress.next_batch,
            probes=job.probes,
            cache=job.options.cache,
        ):
            progress.take(step)
            if job.options.on_batch:
                job.options.on_batch(len(step.positions) + len(step.unreadable))
            if interruption.signal:
                raise Interrupted(interruption.signal)
            saver.save_if_due()
    return progress


def _begin(job: Job, path: Path | None) -> Progress:
    """Return the progress that the partial has stored, or a new one."""
    stored = path and directory.load_partial(path, job.identity, job.images)
    if stored:
        found = {name: getattr(stored, name) for name in Progress.__annotations__}
        device = job.subjects[0].device
        found["totals"] = {key: total.to(device) for key, total in stored.totals.items()}
        return Progress(**found)
    size = job.options.batch_size or automatic_batch_size(job.subjects, job.wanted)
    return Progress(batch_size=size, chunk=size)


class _Saver:
    """Saves partials: from time to time, and when the pass ends early."""

    def __init__(self, job: Job, progress: Progress, path: Path | None) -> None:
        self.job, self.progress, self.path = job, progress, path
        self.before = progress.seconds
        self.started = self.saved = time.monotonic()
        self.cost = 0.0

    def __enter__(self) -> None:
        """Start."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.progress.seconds = self.before + time.monotonic() - self.started
        if kind is not None:
            self.save()

    def save_if_due(self) -> None:
        """Save when the interval is over and saving stays a small share of the time."""
        if self.path is None:
            return
        waited = time.monotonic() - self.saved
        if waited >= max(self.job.options.save_every, self.cost / PARTIAL_SHARE):
            self.save()

    def save(self) -> None:
        """Write the partial."""
        if self.path is None or not self.progress.next_batch:
            return
        begin = time.monotonic()
        self.progress.seconds = self.before + begin - self.started
        directory.save_partial(
            self.path,
            directory.Partial(
                identity=self.job.identity, images=self.job.images, **vars(self.progress)
            ),
        )
        self.saved = time.monotonic()
        self.cost = self.saved - begin
