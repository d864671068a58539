"""What a command's options mean: which subjects, which source, which studies, which directory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import typer

from illama.sources import Source, open_source
from illama_eval.options import Shared
from illama_eval.studies import STUDIES
from illama_eval.study import Study
from illama_eval.subjects import (
    DEMO_CHECKPOINT,
    ModelSubject,
    Subject,
    SubjectError,
    open_checkpoint,
    open_predictions,
    unique_names,
)

FIRST_LOOK = (
    "no --data: a first look on 30 crops of scikit-learn's two photographs. --data takes a folder "
    "of images, .tar shards, CIFAR, .npz, or a name from `illama-eval list`"
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be measured, resolved from the options."""

    subjects: tuple[Subject, ...]
    source: Source
    studies: tuple[Study, ...]
    out: Path
    note: str = ""


def resolve(
    shared: Shared,
    command: str,
    parameters: Mapping[str, Mapping[str, Any]],
    predictions: Path | None = None,
) -> Request:
    """Return the subjects, the source, the studies and the directory that the options mean.

    Raises:
        SubjectError: labels are needed and the source has none, or an option does not fit.
        SourceError: the images cannot be read or do not fit the head.
        CheckpointError: a checkpoint is refused.
    """
    parse_batch_size(shared.batch_size)
    studies = tuple(STUDIES[name](**given) for name, given in parameters.items())
    if predictions is not None:
        if shared.checkpoints:
            raise SubjectError("give either a checkpoint or --predictions, not both")
        saved, rows = open_predictions(predictions)
        digest = hashlib.sha256(predictions.read_bytes()).hexdigest()
        out = shared.out or default_out([predictions.stem], [digest], command)
        return Request(subjects=(saved,), source=_limited(rows, shared), studies=studies, out=out)
    source, note = choose_source(shared, studies, everything=command in {"run", "quantize"})
    if source.labels is None:
        studies = tuple(study for study in studies if not study.needs_labels)
    subjects = open_subjects(shared)
    if len({subject.classes for subject in subjects}) > 1 or len(subjects) == 1:
        studies = tuple(study for study in studies if study.name != "agreement")
    for subject in subjects:
        source = source.for_head(subject.classes) if source.labels is not None else source
    digests = [str(subject.describe()["file_sha256"]) for subject in subjects]
    out = shared.out or default_out([subject.name for subject in subjects], digests, command)
    return Request(subjects=subjects, source=source, studies=studies, out=out, note=note)


def open_subjects(shared: Shared) -> tuple[ModelSubject, ...]:
    """Return the checkpoints as subjects, with names that differ.

    Raises:
        CheckpointError: a file is refused.
    """
    device = choose_device(shared.device)
    given = {
        name: getattr(shared, name)
        for name in ("soft_mask", "heads", "masking", "image_size")
        if getattr(shared, name) is not None
    }
    subjects = [
        open_checkpoint(
            path,
            device=device,
            dtype=shared.dtype.value,
            preprocess=shared.preprocess.value,
            compiled=shared.compiled,
            ema=shared.ema,
            **given,
        )
        for path in shared.checkpoints or [DEMO_CHECKPOINT]
    ]
    digests = [str(subject.provenance["file_sha256"]) for subject in subjects]
    names = unique_names(shared.checkpoints or [DEMO_CHECKPOINT], digests)
    return tuple(replace(each, name=name) for each, name in zip(subjects, names, strict=True))


def choose_source(
    shared: Shared, studies: Sequence[Study], *, everything: bool
) -> tuple[Source, str]:
    """Return the source, and a note where it was chosen for want of data.

    Raises:
        SubjectError: labels are needed, and no labelled images were given.
        SourceError: the images cannot be read.
    """
    spec = shared.data or (os.environ.get("ILLAMA_DATA") if shared.checkpoints else "demo")
    if spec is not None:
        source = open_source(
            spec,
            split=shared.split.value,
            labels=shared.labels,
            class_subset=shared.class_subset,
        )
        _require_labels(source, studies, everything)
        return _limited(source, shared), ""
    if not everything and any(study.needs_labels for study in studies):
        raise SubjectError(
            "no --data: this study needs labelled images; --data takes a folder of class folders, "
            ".tar shards, CIFAR, .npz, or a name from `illama-eval list`"
        )
    return _limited(open_source("photos"), shared), FIRST_LOOK


def _require_labels(source: Source, studies: Sequence[Study], everything: bool) -> None:
    missing = [study.name for study in studies if study.needs_labels and source.labels is None]
    if missing and (not everything or len(missing) == len(studies)):
        raise SubjectError(
            f"{source.name}: {missing[0]} needs labels, and this source has none; "
            "use class folders, or --labels CSV for a flat folder"
        )


def _limited(source: Source, shared: Shared) -> Source:
    return source if shared.limit is None else source.limit(shared.limit, shared.seed)


def choose_device(name: str) -> torch.device:
    """Return the device, with exact fp32 products where it is a GPU.

    Raises:
        typer.BadParameter: the name is no device.
        SubjectError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cpu", "cuda"}:
        raise typer.BadParameter(f"{name} is not auto, cpu, cuda or cuda:N", param_hint="--device")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise SubjectError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        device = torch.device("cuda", device.index or int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def default_out(names: Sequence[str], digests: Sequence[str], command: str) -> Path:
    """Return reports/NAME-SHA/COMMAND; several files share the digest of their digests."""
    one = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    name = names[0] if len(names) == 1 else f"{names[0]}-and-{len(names) - 1}-more"
    return Path("reports") / f"{name}-{one[:8]}" / command


def parse_batch_size(given: str) -> int | None:
    """Return the images per pass; None for `auto`.

    Raises:
        typer.BadParameter: it is neither `auto` nor a positive whole number.
    """
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise typer.BadParameter(
            f"{given} is neither auto nor a positive whole number", param_hint="--batch-size"
        )
    return int(given)
