"""The generator over images: loading, sharding, subjects in lockstep, out-of-memory retry."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.distributed import World
from illama.observation import PROBE_WANTED, Batch, LayerSeen, OutputSeen, Piece, SegmentsSeen
from illama.sources.source import Source
from illama_eval.probe import Probe
from illama_eval.run.loader import LoadedBatch
from illama_eval.run.plan import BatchPlan
from illama_eval.run.probing import Originals, observe_probes
from illama_eval.subjects.subject import PatchSubject, Subject

Result = TypeVar("Result")
SubjectPiece: TypeAlias = tuple[int, Piece]
"""The number of a subject (from 0), and one of its pieces."""
Probes: TypeAlias = Mapping[Probe, frozenset[str]]
"""What is wanted of a subject on the changed images of each probe."""

CORE_BYTES = 2**26
"""Bytes for each core that an automatic batch may take on a CPU: what does not stay in its caches
takes up to 1.5 times as long."""
FREE_SHARE = 0.5
"""Share of a GPU's free memory that it may take; studies and products need the rest."""
LARGEST: Mapping[str, int] = {"cpu": 128, "cuda": 256}
"""Images in an automatic batch at most."""


class OutOfMemoryError(RuntimeError):
    """A single image does not fit into memory."""


@dataclass(frozen=True, kw_only=True)
class BatchResult(Generic[Result]):
    """The results of one loaded batch."""

    next_batch: int
    """Index of the batch to continue with after an interruption."""
    positions: NDArray[np.int64]
    unreadable: tuple[tuple[int, str], ...]
    chunk: int
    """Images per forward pass from here on; lower than the batch after running out of memory."""
    results: tuple[Result, ...]


def observe_source(
    subjects: Sequence[Subject],
    source: Source,
    wanted: frozenset[str],
    consume: Callable[[Iterator[SubjectPiece]], Result],
    *,
    batch_size: int,
    chunk: int | None = None,
    workers: int = 0,
    world: World | None = None,
    first: int = 0,
    probes: Probes | None = None,
    cache: Path | None = None,
) -> Iterator[BatchResult[Result]]:
    """Yield a BatchResult per batch, with what `consume` returned for the pieces of all subjects.

    Subjects see each batch in lockstep, so that a piece can carry its `reference`. After it, each
    is shown the changed images of the probes, which map to what is wanted of it then. When memory
    runs out, inside the model or inside `consume`, the images per pass are halved and the failed
    pass is done again: no image is lost or seen twice. `cache` is a folder that keeps prepared
    images for later runs.

    Raises:
        ResultError: the folder of the cache cannot be made.
        LoaderError: a worker process ended or hung.
        OutOfMemoryError: one image alone does not fit.
    """
    plan = BatchPlan(
        subjects,
        source,
        batch_size,
        world,
        masked="segments" in wanted,
        background="background" in wanted,
        cache=cache,
    )
    chunk = min(chunk or batch_size, batch_size)
    with torch.no_grad():
        for index, loaded in enumerate(plan.load(workers, first), start=first):
            results: list[Result] = []
            done = 0
            while done < len(loaded.positions):
                part = loaded.part(done, chunk)
                result = _attempt(
                    partial(_consume, consume, subjects, plan, part, wanted, probes or {})
                )
                if result is None:
                    chunk = _halve(chunk)
                    continue
                results.append(result[0])
                done += len(part.positions)
            yield BatchResult(
                next_batch=index + 1,
                positions=loaded.positions,
                unreadable=loaded.unreadable,
                chunk=chunk,
                results=tuple(results),
            )


def automatic_batch_size(subjects: Sequence[Subject], wanted: frozenset[str]) -> int:
    """Return a power of two, 1 to 256: what fits the memory of the device.

    Subjects are observed in lockstep, so that what all of them hold at a time counts.
    """
    device = subjects[0].device
    image = sum(subject.map_bytes(wanted) for subject in subjects)
    fits = max(1, _available(device) // max(1, image))
    return min(LARGEST[device.type], 1 << (fits.bit_length() - 1))


def _available(device: torch.device) -> int:
    """Return the bytes that a batch may take: of a GPU a share of what is free, or is torch's."""
    if device.type == "cpu":
        return CORE_BYTES * torch.get_num_threads()
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(FREE_SHARE * (free + unused))


def _see(
    subjects: Sequence[Subject],
    plan: BatchPlan,
    part: LoadedBatch,
    wanted: frozenset[str],
    probes: Probes,
) -> Iterator[SubjectPiece]:
    """Yield the pieces of all subjects in lockstep, each with its batch and its reference.

    The pieces of changed images follow, subject by subject.
    """
    batch = plan.batch(part)
    streams = [
        subject.observe(
            plan.normalize(number, plan.inputs(number, part)),
            (wanted & subject.shows) - PROBE_WANTED,
        )
        for number, subject in enumerate(subjects)
    ]
    outputs: dict[int, OutputSeen] = {}
    for pieces in _in_step(streams):
        reference: Piece | None = None
        for number, piece in enumerate(pieces):
            if piece is not None:
                seen = _attach(piece, batch, reference, plan.source, plan.background(number, part))
                reference = reference if number else seen
                if probes and isinstance(seen, OutputSeen):
                    outputs[number] = seen
                yield number, seen
    for number, output in outputs.items():
        subject = subjects[number]
        if isinstance(subject, PatchSubject):
            originals = Originals(
                subject=subject, number=number, plan=plan, part=part, output=output
            )
            for changed in observe_probes(originals, probes):
                yield number, changed


def _in_step(streams: Sequence[Iterator[Piece]]) -> Iterator[list[Piece | None]]:
    """Yield the same piece of all subjects, None for a subject without it, and the outputs last."""
    heads = [next(stream, None) for stream in streams]
    while any(_comes_before_the_output(piece) for piece in heads):
        yield [piece if _comes_before_the_output(piece) else None for piece in heads]
        heads = [
            next(stream, None) if _comes_before_the_output(piece) else piece
            for stream, piece in zip(streams, heads, strict=True)
        ]
    yield heads


def _comes_before_the_output(piece: Piece | None) -> bool:
    return isinstance(piece, LayerSeen | SegmentsSeen)


def _attach(
    piece: Piece, batch: Batch, reference: Piece | None, source: Source, background: Tensor | None
) -> Piece:
    """Return the piece with its batch, its reference, and the logits of the kept classes alone."""
    if isinstance(piece, SegmentsSeen):
        like = reference if isinstance(reference, SegmentsSeen) else None
        return replace(piece, batch=batch, reference=like)
    if isinstance(piece, LayerSeen):
        same = reference if isinstance(reference, LayerSeen) else None
        return replace(piece, batch=batch, reference=same, background=background)
    other = reference if isinstance(reference, OutputSeen) else None
    logits = piece.logits
    if logits is not None and source.class_subset is not None:
        logits = logits[:, list(source.class_subset)]
    return replace(piece, batch=batch, reference=other, logits=logits)


def _consume(
    consume: Callable[[Iterator[SubjectPiece]], Result],
    subjects: Sequence[Subject],
    plan: BatchPlan,
    part: LoadedBatch,
    wanted: frozenset[str],
    probes: Probes,
) -> Result:
    """Observe one part of a batch and consume it, so that one attempt covers both."""
    return consume(_see(subjects, plan, part, wanted, probes))


def _attempt(work: Callable[[], Result]) -> tuple[Result] | None:
    """Return the result in a tuple, or None when memory ran out."""
    try:
        return (work(),)
    except RuntimeError as problem:
        if not is_out_of_memory(problem):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def is_out_of_memory(problem: RuntimeError) -> bool:
    """Return whether the error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    return "DefaultCPUAllocator" in str(problem) and "allocate memory" in str(problem)


def _halve(chunk: int) -> int:
    if chunk == 1:
        raise OutOfMemoryError(
            "out of memory with a single image: measure fewer studies at a time, "
            "or on a device with more memory"
        )
    return chunk // 2
