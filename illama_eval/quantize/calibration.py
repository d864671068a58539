"""Calibration images: those that ranges, smoothing and GPTQ are fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from illama.sources.source import Source
from illama_eval.quantize.layers import Quantizable
from illama_eval.subjects.subject import SubjectError

SMALLEST_CALIBRATION = 8
"""Fewest calibration images."""


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """Images that ranges, smoothing and GPTQ are fitted to; results are on other images."""

    images: Tensor
    """Prepared, fp32 [image, 3, row, column]."""
    record: Mapping[str, Any]
    """Source, split, number of images and the sha256 of their ids."""


def calibrate_on(
    source: Source, reported: Source | None, subject: Quantizable, images: int, seed: int = 0
) -> CalibrationSet:
    """Return calibration images of a source, none of them among the reported ones.

    Raises:
        SubjectError: there are too few, or some are among the reported ones.
    """
    if images < SMALLEST_CALIBRATION or len(source) < images:
        raise SubjectError(
            f"--train-limit {images}: {source.name} has {len(source)}, and at least "
            f"{SMALLEST_CALIBRATION} are needed"
        )
    chosen = source.limit(images, seed)
    if reported is not None:
        _check_disjoint(chosen, reported)
    digest = hashlib.sha256("\n".join(sorted(chosen.ids)).encode()).hexdigest()
    return CalibrationSet(
        images=prepare_images(subject, chosen),
        record={
            "source": source.name,
            "split": source.split,
            "images": len(chosen),
            "ids_sha256": digest,
            "fingerprint": chosen.fingerprint,
        },
    )


def prepare_images(subject: Quantizable, source: Source) -> Tensor:
    """Return all images of a source as the subject takes them, [image, 3, row, column]."""
    pixels = [subject.transform.geometry(source.read(i)) for i in range(len(source))]
    return subject.transform.normalize(torch.stack(pixels).to(subject.device))


def _check_disjoint(source: Source, reported: Source) -> None:
    """Refuse calibration images that are also reported on, compared by content."""
    shared = source.find_shared(reported)
    if shared:
        raise SubjectError(
            f"calibration on {source.name}: {len(shared)} of {len(source)} images are among the"
            f" reported ones (first {shared[0]!r}); name a training set with --train-data"
        )
