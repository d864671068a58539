"""Sample images that are kept beside a run: with the class token's attention, or with masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.files import replacing
from illama.observation import LayerSeen, Piece, SegmentsSeen, batch_of, present
from illama.sources.source import Source, hash_order
from illama.transforms import ImageError, Transform, to_tensor
from illama_eval.study import Sums
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.segmenter import SegmenterSubject

SAMPLES = 8
"""Images that are kept, those of smallest hash."""
LARGEST_SEGMENT = 256
"""Pixels along a side beyond which only every second, third, ... of an image with masks is kept."""


@dataclass(frozen=True)
class ClassAttention:
    """The class token's row of `used`, mean over heads, for the sample images of every layer.

    It measures as studies do, so it resumes and distributes with them; it has no rows.
    """

    name: ClassVar[str] = "class_attention"
    wants: ClassVar[frozenset[str]] = frozenset({"used"})

    def measure(self, piece: Piece) -> Sums:
        """Return `layer/N`, float64 [sample, token], zero for samples of other batches.

        Nothing for a batch without samples.
        """
        batch = batch_of(piece)
        chosen = (batch.order < SAMPLES).nonzero()[:, 0]
        if not isinstance(piece, LayerSeen) or not len(chosen):
            return {}
        used = present(piece.used, "used")
        row = used[chosen.to(used.device, non_blocking=True), :, piece.class_index].double().mean(1)
        index = batch.order[chosen].unsqueeze(0).to(used.device, non_blocking=True)
        shape = (SAMPLES, row.shape[-1])
        sparse = torch.sparse_coo_tensor(index, row, shape, check_invariants=False)
        return {f"layer/{piece.index}": sparse}


def collect_samples(
    source: Source,
    subject: ModelSubject,
    total: Mapping[str, Tensor],
    predictions: NDArray[np.int64] | None,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of samples.npz.

    `images` uint8 [sample, row, column, 3] as the model saw them; `attention` uint8 [sample,
    layer, row, column] on the patch grid, each map scaled so that its maximum is 255; `ids`, and
    where known `labels` and `predictions`. Samples that cannot be read are left out.
    """
    layers = sorted(total, key=lambda key: int(key.partition("/")[2]))
    maps = torch.stack([total[key] for key in layers], dim=1).cpu().numpy()
    front = subject.model.config.class_token == "first"
    patches = maps[..., 1:] if front else maps[..., :-1]
    side = round(patches.shape[-1] ** 0.5)
    peak = np.maximum(patches.max(-1, keepdims=True), np.finfo(np.float64).tiny)
    attention = np.rint(255 * patches / peak).astype(np.uint8).reshape(*maps.shape[:2], side, side)
    order = hash_order(source.ids)
    shown = [(int(order[i]), int(i)) for i in np.argsort(order)[:SAMPLES]]
    pictures = {rank: _view(source, position, subject.transform) for rank, position in shown}
    kept = [(rank, position) for rank, position in shown if pictures[rank] is not None]
    index = np.array([position for _, position in kept], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.array([source.ids[i] for i in index], dtype=np.str_),
        "images": np.array([pictures[rank] for rank, _ in kept], dtype=np.uint8),
        "attention": attention[[rank for rank, _ in kept]],
    }
    if source.labels is not None:
        arrays["labels"] = source.labels[index]
    if predictions is not None:
        arrays["predictions"] = predictions[index]
    return arrays


@torch.no_grad()
def write_segments(subject: SegmenterSubject, source: Source, out: Path) -> None:
    """Write a few images with their masks, true and found, into a run directory.

    Images that cannot be read are skipped.

    Raises:
        CheckpointError: the disk is full.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for position in np.argsort(hash_order(source.ids))[:SAMPLES].tolist():
        try:
            image, mask = source.read_pair(position)
        except ImageError:
            continue
        *_, last = subject.observe(to_tensor(image)[None], ())
        assert isinstance(last, SegmentsSeen)
        number = len(arrays) // 3
        parts = {"image": image, "mask": mask, "predicted": last.predicted[0].cpu().numpy()}
        step = 1 + max(image.shape[:2]) // LARGEST_SEGMENT
        arrays |= {
            f"{name}{number}": part[::step, ::step].astype(np.uint8) for name, part in parts.items()
        }
    with replacing(out / "segments.npz") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _view(source: Source, position: int, transform: Transform) -> NDArray[np.uint8] | None:
    """Return what the model saw, uint8 [row, column, 3]; None if it cannot be read."""
    try:
        return transform.geometry(source.read(position)).permute(1, 2, 0).numpy()
    except ImageError:
        return None
