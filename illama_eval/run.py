"""Fold studies over the loop: one pass over the images, and a run directory in the end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from illama.observation import Piece
from illama.sources import Source
from illama_eval import directory, environment
from illama_eval.loop import Seen, Shard, Step, automatic_batch_size, observe_source
from illama_eval.processes import add_over_processes, gather, join
from illama_eval.result import ResultError, Row, Run
from illama_eval.samples import ClassAttention, collect_samples
from illama_eval.study import REPLICATE_SCHEME, Findings, Study, Sums, accumulate
from illama_eval.subjects import ModelSubject, Subject

PARTIAL_SHARE = 0.05
"""Largest share of the time that may go into saving partials."""

UNREADABLE_NAMED = 100
"""Unreadable images that the header names; all are counted."""

CLASSES_NAMED = 100
"""Class names that the header lists."""

IDENTIFYING = ("weights_sha256", "config", "soft_mask", "dtype", "transform", "classes")
"""What of a subject's description makes two runs the same run."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal; what it had measured is saved."""

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"interrupted by {name}; what was measured is saved")
        self.exit_code = 128 + number


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run; nothing here changes what is measured."""

    batch_size: int | None = None
    """Images per pass; None: what fits the device."""
    workers: int = 0
    """Threads that read images ahead; 0 reads them between the passes."""
    resume: bool = True
    """Whether a finished run is shown again, and an interrupted one gone on with."""
    overwrite: bool = False
    """Whether a run of another identity is replaced."""
    samples: bool = True
    """Whether sample images are kept with the class token's attention."""
    save_every: float = 60.0
    """Seconds between partials, at least."""
    on_start: Callable[[int, int], object] | None = None
    """Called with this process's images, and how many of them a partial covers already."""
    on_batch: Callable[[int], object] | None = None
    """Called with the images of each finished batch."""


def evaluate(
    subject: Subject | Sequence[Subject],
    source: Source,
    studies: Sequence[Study],
    out: Path | None = None,
    options: Options | None = None,
) -> Run:
    """Measure subjects on a source with all studies in one pass.

    With `out`, the run directory is written there, and an interrupted run in it is gone on with.
    Under torchrun every process measures its share, and all return the same run.

    Raises:
        ResultError: `out` is in use or holds another run, or no image could be read.
        Interrupted: a signal came; a partial was saved.
        ValueError: a study needs labels that the source lacks.
    """
    subjects = tuple(subject) if isinstance(subject, Sequence) else (subject,)
    job = _Job(subjects, source, tuple(studies), options or Options(), join())
    if out is None:
        return job.finish(_fold(job, None)).run
    if job.shard.rank:
        return _follow(job, out)
    with directory.owned(out):
        found = _prepare(job, out)
        gather(found is not None, job.shard)
        if found is not None:
            return found
        finished = job.finish(_fold(job, out))
        directory.write_run(out, finished.run, finished.timing, finished.arrays)
        return finished.run


def _prepare(job: _Job, out: Path) -> Run | None:
    """Make the directory ready; return the run if it is there already."""
    if job.options.overwrite:
        directory.clear(out)
    found = directory.finished_run(out, job.identity)
    if job.options.resume:
        return found
    directory.clear_partials(out)
    return None


def _follow(job: _Job, out: Path) -> Run:
    """Measure this process's share for the first process, which owns the directory."""
    if gather(False, job.shard)[0]:
        return Run.load(out)
    return job.finish(_fold(job, out)).run


@dataclass(frozen=True, kw_only=True)
class _Finished:
    run: Run
    timing: Run
    arrays: Mapping[str, dict[str, NDArray[Any]]]


class _Collector(Protocol):
    """What the fold asks of a study, and of the sample collector beside the studies."""

    @property
    def name(self) -> str: ...

    def measure(self, piece: Piece) -> Sums: ...


@dataclass(kw_only=True)
class _Progress:
    """What has been measured so far; totals are keyed `subject number/study/key`."""

    batch_size: int
    chunk: int
    next_batch: int = 0
    seconds: float = 0.0
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    totals: Sums = field(default_factory=dict)

    def take(self, step: Step[Sums]) -> None:
        """Add one finished batch."""
        for sums in step.results:
            accumulate(self.totals, sums)
        self.unreadable.extend(step.unreadable)
        self.next_batch, self.chunk = step.next_batch, step.chunk

    def of(self, number: int, name: str) -> Sums:
        """Return one subject's total for one study, on the CPU."""
        prefix = f"{number}/{name}/"
        return {
            key.removeprefix(prefix): value.cpu()
            for key, value in self.totals.items()
            if key.startswith(prefix)
        }


@dataclass(frozen=True)
class _Job:
    """One evaluation: what is measured, and what is said about it."""

    subjects: tuple[Subject, ...]
    source: Source
    studies: tuple[Study, ...]
    options: Options
    shard: Shard

    def __post_init__(self) -> None:
        for study in self.studies:
            if study.needs_labels and self.source.labels is None:
                raise ResultError(
                    f"{self.source.name}: {study.name} needs labels, and this source has none"
                )

    @cached_property
    def collectors(self) -> tuple[_Collector, ...]:
        """The studies, and the sample collector where maps are computed anyway."""
        shows = isinstance(self.subjects[0], ModelSubject) and self.options.samples
        if shows and any("used" in study.wants for study in self.studies):
            return (*self.studies, ClassAttention())
        return self.studies

    @cached_property
    def wanted(self) -> frozenset[str]:
        """All that the studies ask of a model."""
        return frozenset().union(*(study.wants for study in self.studies))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run; the code's commit is no part of it."""
        described = [subject.describe() for subject in self.subjects]
        return {
            "subjects": {
                str(number): {key: each[key] for key in IDENTIFYING if key in each}
                for number, each in enumerate(described)
            },
            "source": {
                "fingerprint": self.source.fingerprint,
                "class_subset": _listed(self.source.class_subset),
            },
            "studies": {study.name: environment.parameters(study) for study in self.studies},
            "replicate_scheme": REPLICATE_SCHEME,
        }

    def measure(self, pieces: Iterator[Seen]) -> Sums:
        """Return what all studies make of one batch's pieces."""
        sums: Sums = {}
        for number, piece in pieces:
            for collector in self.collectors:
                for key, value in collector.measure(piece).items():
                    name = f"{number}/{collector.name}/{key}"
                    sums[name] = sums[name] + value if name in sums else value
        return sums

    def finish(self, progress: _Progress) -> _Finished:
        """Return the run, its timing and its arrays, the same in every process."""
        mine = len(self.shard.positions(len(self.source)))
        progress.totals = add_over_processes(progress.totals, self.shard)
        unreadable = sorted(chain.from_iterable(gather(progress.unreadable, self.shard)))
        if len(unreadable) == len(self.source):
            raise ResultError(
                f"{self.source.name}: none of its {len(unreadable)} images can be read "
                f"(first: {unreadable[0][1]})"
            )
        findings = [
            (subject.name, study, study.summarize(progress.of(number, study.name)))
            for number, subject in enumerate(self.subjects)
            for study in self.studies
        ]
        run = Run(
            header=self.header(unreadable),
            rows=tuple(self.rows(findings, len(unreadable))),
            curves=tuple(
                replace(curve, subject=name, study=study.name)
                for name, study, found in findings
                for curve in found.curves
            ),
            verdicts=tuple(
                replace(verdict, subject=name, study=study.name)
                for name, study, found in findings
                for verdict in found.verdicts
            ),
        )
        return _Finished(
            run=run,
            timing=environment.timing(self.subjects[0], progress, mine, run.header),
            arrays=self.arrays(progress),
        )

    def header(self, unreadable: Sequence[tuple[int, str]]) -> dict[str, Any]:
        """Return what was measured with what; no time, no path of this machine."""
        named = [[self.source.ids[i], reason] for i, reason in unreadable[:UNREADABLE_NAMED]]
        return {
            **environment.describe(self.subjects[0].device),
            "identity": self.identity,
            "subjects": [subject.describe() for subject in self.subjects],
            "source": {
                "name": self.source.name,
                "split": self.source.split,
                "images": len(self.source),
                "fingerprint": self.source.fingerprint,
                "classes": _listed((self.source.classes or ())[:CLASSES_NAMED]),
            },
            "metrics": {
                study.name: {name: asdict(metric) for name, metric in study.metrics.items()}
                for study in self.studies
            },
            "images_seen": len(self.source) - len(unreadable),
            "unreadable": {"count": len(unreadable), "first": named},
        }

    def rows(
        self, findings: Iterable[tuple[str, Study, Findings]], unreadable: int
    ) -> Iterator[Row]:
        """Yield all rows with subject, source and study filled in."""
        for name, study, found in findings:
            for row in found.rows:
                note = _accuracy_over_all(row, unreadable) if study.name == "accuracy" else ""
                yield replace(
                    row,
                    subject=name,
                    source=self.source.name,
                    study=study.name,
                    reason="; ".join(filter(None, (row.reason, note))),
                )

    def arrays(self, progress: _Progress) -> dict[str, dict[str, NDArray[Any]]]:
        """Return per_image (records, [subject, image]) and, where kept, samples."""
        records = [self.records(progress, number) for number in range(len(self.subjects))]
        common = [name for name in records[0] if all(name in each for each in records)]
        arrays: dict[str, dict[str, NDArray[Any]]] = {
            "per_image": {
                "ids": np.array(self.source.ids, dtype=np.str_),
                "subjects": np.array([each.name for each in self.subjects], dtype=np.str_),
                **{name: np.stack([each[name] for each in records]) for name in common},
            }
        }
        shown, first = progress.of(0, ClassAttention.name), self.subjects[0]
        if shown and isinstance(first, ModelSubject):
            predictions = records[0].get("prediction")
            arrays["samples"] = collect_samples(self.source, first, shown, predictions)
        return arrays

    def records(self, progress: _Progress, number: int) -> dict[str, NDArray[Any]]:
        """Return one subject's records, one number per image; studies that share one agree."""
        return {
            key.removeprefix("image/"): value.numpy()
            for study in self.studies
            for key, value in progress.of(number, study.name).items()
            if key.startswith("image/") and value.ndim == 1
        }


def _fold(job: _Job, out: Path | None) -> _Progress:
    """Measure this process's images, saving partials into `out` on the way."""
    path = out and directory.partial_path(out, job.shard.rank, job.shard.world)
    progress = _begin(job, path)
    saver = _Saver(job, progress, path)
    mine = len(job.shard.positions(len(job.source)))
    if job.options.on_start:
        job.options.on_start(mine, min(mine, progress.next_batch * progress.batch_size))
    with _signals() as stopped, saver:
        for step in observe_source(
            job.subjects,
            job.source,
            job.wanted,
            job.measure,
            batch_size=progress.batch_size,
            chunk=progress.chunk,
            workers=job.options.workers,
            shard=job.shard,
            first=progress.next_batch,
        ):
            progress.take(step)
            if job.options.on_batch:
                job.options.on_batch(len(step.positions) + len(step.unreadable))
            if stopped:
                raise Interrupted(stopped[0])
            saver.save_if_due()
    return progress


def _begin(job: _Job, path: Path | None) -> _Progress:
    """Return the progress that a partial holds, or none yet."""
    stored = path and directory.load_partial(path, job.identity)
    if stored:
        return _Progress(**{name: getattr(stored, name) for name in _Progress.__annotations__})
    size = job.options.batch_size or automatic_batch_size(job.subjects, job.wanted)
    return _Progress(batch_size=size, chunk=size)


class _Saver:
    """Saves partials: now and then, and whatever ends the fold before its time."""

    def __init__(self, job: _Job, progress: _Progress, path: Path | None) -> None:
        self.job, self.progress, self.path = job, progress, path
        self.before = progress.seconds
        self.started = self.saved = time.monotonic()
        self.cost = 0.0

    def __enter__(self) -> None:
        """Begin."""

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
            directory.Partial(identity=self.job.identity, **vars(self.progress)),
        )
        self.saved = time.monotonic()
        self.cost = self.saved - begin


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying, so that the batch at hand is finished.

    A second signal stops at once.
    """
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopped:
            raise Interrupted(number)
        stopped.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _accuracy_over_all(row: Row, unreadable: int) -> str:
    """Return the accuracy with unreadable images counted as wrong, in words."""
    if not unreadable or row.metric not in {"top1", "top5"} or row.value is None:
        return ""
    everything = row.images + unreadable
    over_all = row.value * row.images / everything
    return f"{unreadable} of {everything} images unreadable; {over_all:.6f} counting them wrong"


def _listed(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)
