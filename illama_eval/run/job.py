"""What one evaluation consists of: its options, its job, and its progress."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from illama.distributed import World
from illama.observation import LAYER_WANTED, Piece
from illama.sources.source import Source
from illama_eval.bootstrap import scheme_of
from illama_eval.probe import Probe, is_for, union_of
from illama_eval.results import ResultError
from illama_eval.run.directory import describe_images
from illama_eval.run.loop import BatchResult, SubjectPiece
from illama_eval.run.samples import ClassAttention
from illama_eval.study import (
    Measured,
    Metric,
    Pending,
    Study,
    StudyResult,
    Sums,
    accumulate,
    needs,
    parameters,
)
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import Subject

IDENTIFYING = (
    "scores_sha256",
    "weights_sha256",
    "quantized_by",
    "model",
    "config",
    "soft_mask",
    "dtype",
    "transform",
    "classes",
)
"""What of a subject's description makes two runs the same run."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """What differs from subject to subject where one thing is measured over a range of it."""

    name: str
    """Such as `soft_mask`, `image_size` or `epoch`."""
    values: tuple[float, ...]
    """In the order of the subjects."""
    reference: int | None = None
    """Index of the subject that the others are compared with; None: no such one."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run; nothing here changes what is measured."""

    batch_size: int | None = None
    """Images per pass; None: what fits the device."""
    workers: int = 0
    """Processes that read images ahead; 0 reads them between the passes."""
    cache: Path | None = None
    """Folder that keeps prepared images for later runs; None: they are not kept."""
    resume: bool = True
    """Whether a finished run is shown again, and an interrupted one continued."""
    overwrite: bool = False
    """Whether a run of another identity is replaced."""
    limit: int | None = None
    """How many images the source was cut to by hash, for the header; None: not cut."""
    seed: int = 0
    """Seed of that cut, for the header."""
    command: tuple[str, ...] = ()
    """The words of the command line that repeats the run, for the header."""
    samples: bool = True
    """Whether sample images are kept with the class token's attention."""
    variable: Variable | None = None
    """For the header, where the subjects are one model over a range of something."""
    save_every: float = 60.0
    """Seconds between partials, at least."""
    on_start: Callable[[int, int], object] | None = None
    """Called with this process's images, and how many of them a partial covers already."""
    on_batch: Callable[[int], object] | None = None
    """Called with the images of each finished batch."""
    on_stored: Callable[[], object] | None = None
    """Called where a finished run is shown again and nothing is measured."""


@dataclass(frozen=True, kw_only=True)
class PrecomputedStudy:
    """A study that was computed before the pass over the images, and belongs to the run."""

    name: str
    """Row.study"""
    metrics: Mapping[str, Metric]
    parameters: Mapping[str, Any]
    """JSON-able; part of the run's identity."""
    results: Mapping[str, StudyResult] = field(default_factory=dict)
    """By the subject's name; empty while only the identity is needed."""


class Collector(Protocol):
    """What a pass over the images needs of a study, or of the sample collector."""

    @property
    def name(self) -> str:
        """Prefix of its sums."""
        ...

    def measure(self, piece: Piece) -> Measured:
        """Return what one piece shows."""
        ...


@dataclass(kw_only=True)
class Progress:
    """What has been measured so far; totals are keyed `subject number/study/key`."""

    batch_size: int
    chunk: int
    next_batch: int = 0
    seconds: float = 0.0
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    totals: Sums = field(default_factory=dict)

    def take(self, step: BatchResult[Sums]) -> None:
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
class Job:
    """Subjects, images and studies of one evaluation, and this process's share of it."""

    subjects: tuple[Subject, ...]
    source: Source
    studies: tuple[Study, ...]
    options: Options
    world: World
    precomputed: PrecomputedStudy | None = None

    def __post_init__(self) -> None:
        for study in self.studies:
            lacking = self.source.lacks(study.requires)
            if lacking:
                raise ResultError(
                    f"{self.source.name}: {study.name} needs {lacking}, which this source lacks"
                )
            if not any(study in each for each in self.studies_of):
                raise ResultError(unseen(study, self.subjects[0]))

    @cached_property
    def studies_of(self) -> tuple[tuple[Study, ...], ...]:
        """The studies of each subject: those whose needs it shows."""
        return tuple(
            tuple(study for study in self.studies if needs(study) <= subject.shows)
            for subject in self.subjects
        )

    @cached_property
    def collectors(self) -> tuple[tuple[Collector, ...], ...]:
        """The studies of each subject, and the sample collector where maps are computed anyway."""
        first, *others = self.studies_of
        shows = isinstance(self.subjects[0], ModelSubject) and self.options.samples
        if shows and any("used" in study.wants for study in first):
            return ((*first, ClassAttention()), *others)
        return self.studies_of

    @cached_property
    def wanted(self) -> frozenset[str]:
        """All that the studies want of a model."""
        return frozenset().union(*(study.wants for study in self.studies))

    @cached_property
    def probes(self) -> dict[Probe, frozenset[str]]:
        """The probes of all studies, each with what they want of a model then."""
        return union_of(self.studies)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run; the code's commit is not part of it."""
        described = [subject.describe() for subject in self.subjects]
        subset, groups = self.source.class_subset, self.source.groups
        background = self.source.background if "background" in self.wanted else None
        return {
            "subjects": {
                str(number): {key: each[key] for key in IDENTIFYING if key in each}
                for number, each in enumerate(described)
            },
            "source": {
                "fingerprint": self.source.fingerprint,
                "class_subset": None if subset is None else list(subset),
                **({} if groups is None else {"groups_sha256": _digest_of(groups)}),
                **({} if background is None else {"background": list(background)}),
            },
            "studies": {
                **{study.name: parameters(study) for study in self.studies},
                **(
                    {}
                    if self.precomputed is None
                    else {self.precomputed.name: dict(self.precomputed.parameters)}
                ),
            },
            "replicate_scheme": scheme_of(self.source.groups),
        }

    @property
    def images(self) -> str:
        """The source in words, for messages."""
        return describe_images(self.source.name, len(self.source))

    def measure(self, pieces: Iterator[SubjectPiece]) -> Sums:
        """Return what all studies make of one batch's pieces; what is pending is awaited last."""
        sums: Sums = {}
        pending: list[Measured] = []
        for number, piece in pieces:
            for collector in self.collectors[number]:
                if not is_for(piece, collector):
                    continue
                for key, value in collector.measure(piece).items():
                    name = f"{number}/{collector.name}/{key}"
                    if isinstance(value, Pending):
                        pending.append({name: value})
                    else:
                        sums[name] = sums[name] + value if name in sums else value
        for late in pending:
            accumulate(sums, late)
        return sums


def _digest_of(groups: Mapping[str, Sequence[str]]) -> str:
    """Return a digest of which image is in which group."""
    plain = [[way, list(names)] for way, names in groups.items()]
    return hashlib.sha256(json.dumps(plain).encode("ascii")).hexdigest()


def unseen(study: Study, subject: Subject) -> str:
    """Return why a study cannot be made of a subject, with what to do."""
    missing = min(needs(study) - subject.shows)
    if missing in LAYER_WANTED:
        why = getattr(subject, "hidden", "") or "this model does not show it"
        return (
            f"{subject.name}: {study.name} needs attention, and {why}; give a vision transformer "
            "with attention between all tokens"
        )
    if missing == "logits" and "features" in subject.shows:
        return (
            f"{subject.name}: {study.name} needs logits, and this model has no head; give one with "
            "a head, or measure rank, collapse or transfer"
        )
    return (
        f"{subject.name}: {study.name} needs {missing}, and this model shows only "
        f"{', '.join(sorted(subject.shows))}"
    )
