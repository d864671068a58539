"""The passes over changed images that studies ask for by their probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from illama.observation import (
    LAYER_WANTED,
    PROBE_WANTED,
    Batch,
    Changed,
    LayerSeen,
    OutputSeen,
    Piece,
)
from illama.transforms import ImageError
from illama_eval.probe import Probe, replace_patches
from illama_eval.run.loader import LoadedBatch
from illama_eval.run.plan import BatchPlan
from illama_eval.subjects.subject import PatchSubject


@dataclass(frozen=True, kw_only=True)
class Originals:
    """Unchanged images of a batch, and what a subject made of them."""

    subject: PatchSubject
    number: int
    """The subject's, in the plan."""
    plan: BatchPlan
    part: LoadedBatch
    output: OutputSeen
    """Of all images, with their batch."""

    @property
    def batch(self) -> Batch:
        """Return the batch of the output."""
        assert self.output.batch is not None
        return self.output.batch

    @property
    def positions(self) -> Tensor:
        """Return the images' positions in the source, on the CPU, int64 [image]."""
        return torch.from_numpy(self.part.positions)

    def kept_patches(self, probe: Probe) -> Tensor:
        """Return how many patches of each image stay, on the CPU, int64 [image]."""
        return probe.kept_patches(self.plan.keys[self.positions], self.subject.patch_grid**2)

    def inputs(self, there: Tensor) -> Tensor:
        """Return some images before they are normalized, by their indices on the device."""
        return self.plan.inputs(self.number, self.part)[there]

    def observe(self, images: Tensor, names: frozenset[str]) -> Iterator[Piece]:
        """Yield what the subject shows of images that are not normalized yet."""
        return self.subject.observe(self.plan.normalize(self.number, images), names)


def observe_probes(originals: Originals, probes: Mapping[Probe, frozenset[str]]) -> Iterator[Piece]:
    """Yield the pieces of changed images, each with its original, as far as the subject shows them.

    States of tokens are compared bit for bit, so their originals come from a pass of the same shape
    as the changed one.
    """
    shows = originals.subject.shows
    for probe, wanted in probes.items():
        if probe.rest in shows:
            look = _observe_replaced if probe.rest == "replaced" else _observe_closed
            yield from look(originals, probe, wanted & shows - PROBE_WANTED)


def _observe_replaced(originals: Originals, probe: Probe, names: frozenset[str]) -> Iterator[Piece]:
    """Yield the pieces of images whose later patches are another image's, in step with theirs."""
    chosen, partners = _partners(originals, probe)
    if not len(chosen):
        return
    batch, device = select_batch(originals.batch, chosen), originals.plan.device
    images = originals.inputs(chosen.to(device, non_blocking=True))
    kept = originals.kept_patches(probe)[chosen].to(device, non_blocking=True)
    pinned = partners.pin_memory() if device.type == "cuda" else partners
    others = pinned.to(device, non_blocking=True)
    changed = replace_patches(images, others, kept, originals.subject.patch_grid)
    differs = (changed != images).flatten(1).any(1)
    streams = (originals.observe(each, names) for each in (images, changed))
    for original, seen in zip(*streams, strict=True):
        change = Changed(probe=probe.name, kept=kept, differs=differs, original=original)
        yield _attach(seen, batch, change)


def _observe_closed(originals: Originals, probe: Probe, names: frozenset[str]) -> Iterator[Piece]:
    """Yield the outputs of images of which the subject is given the first patches alone."""
    plan, kept = originals.plan, originals.kept_patches(probe)
    taken = probe.choose(plan.order[originals.positions], len(plan.source))
    for patches in sorted(set(kept[taken].tolist())):
        chosen = (taken & (kept == patches)).nonzero()[:, 0]
        there = chosen.to(plan.device, non_blocking=True)
        batch = select_batch(originals.batch, chosen)
        original = select_output(originals.output, there)
        images = plan.normalize(originals.number, originals.inputs(there))
        for seen in originals.subject.observe_first(images, names - LAYER_WANTED, patches):
            left = torch.full_like(there, patches)
            changed = Changed(probe=probe.name, kept=left, original=original)
            yield _attach(seen, batch, changed, plan)


def _partners(originals: Originals, probe: Probe) -> tuple[Tensor, Tensor]:
    """Return the indices of a part's images that have a partner, and the partners, prepared.

    The partner is the next image in the order of hashes, among those of the probe; an image alone
    has none, and an image whose partner cannot be read is left out. All are on the CPU.
    """
    plan = originals.plan
    taken, which = probe.number(len(plan.source)), plan.reader.input_of[originals.number]
    chosen, others = [], []
    for index, order in enumerate(plan.order[originals.positions].tolist()):
        if order < taken and taken > 1:
            position = int(plan.by_order[(order + 1) % taken])
            try:
                others.append(plan.reader.read(position)[which])
            except ImageError:
                continue
            chosen.append(index)
    stacked = torch.stack(others) if others else torch.empty(0)
    return torch.tensor(chosen, dtype=torch.int64), stacked


def _attach(piece: Piece, batch: Batch, changed: Changed, plan: BatchPlan | None = None) -> Piece:
    """Return the piece with its batch and its change, and the logits of the kept classes alone."""
    assert isinstance(piece, LayerSeen | OutputSeen)
    kept = None if plan is None else plan.source.class_subset
    if isinstance(piece, OutputSeen) and piece.logits is not None and kept is not None:
        piece = replace(piece, logits=piece.logits[:, list(kept)])
    return replace(piece, batch=batch, changed=changed)


def select_batch(batch: Batch, chosen: Tensor) -> Batch:
    """Return the batch of some of its images, by their indices on the CPU, int64 [chosen]."""
    numbers, there = chosen.tolist(), chosen.to(batch.positions.device, non_blocking=True)
    return replace(
        batch,
        ids=tuple(batch.ids[i] for i in numbers),
        labels=None if batch.labels is None else batch.labels[there],
        further_labels=None if batch.further_labels is None else batch.further_labels[there],
        positions=batch.positions[there],
        order=batch.order[chosen],
        keys=batch.keys[there],
        group_keys=None if batch.group_keys is None else batch.group_keys[there],
        weights=batch.weights[:, there],
        cues=None if batch.cues is None else batch.cues[there],
        masks=batch.masks and tuple(batch.masks[i] for i in numbers),
    )


def select_output(output: OutputSeen, chosen: Tensor) -> OutputSeen:
    """Return the output of some of its images, without batch and reference."""
    return OutputSeen(
        logits=None if output.logits is None else output.logits[chosen],
        features=None if output.features is None else output.features[chosen],
    )
