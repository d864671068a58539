"""What is measured: a named model with its provenance, or predictions that somebody saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from illama.checkpoint.load import Checkpoint, read_checkpoint
from illama.model import Model
from illama.observation import LAYER_WANTED, SEGMENTER_WANTED, WANTED, OutputSeen, Piece
from illama.sources.source import Source, hash_arrays, make_source, read_array
from illama.transforms import Transform, evaluation_transform
from illama_eval.results import load_arrays

DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
Dtype = Literal["fp32", "bf16", "fp16"]
Preprocess = Literal["model", "paper-calibration"]

DEMO_CHECKPOINT = Path(__file__).with_name("demo") / "illama_demo_nano.safetensors"
"""The bundled checkpoint, trained on the demo images by `illama train demo`."""


class SubjectError(ValueError):
    """Something that cannot be measured as asked; one line, with what to do."""

    exit_code: ClassVar[int] = 3


class Subject(Protocol):
    """What the loop asks of whatever is measured."""

    @property
    def name(self) -> str:
        """Short display name, unique within a run."""
        ...

    @property
    def classes(self) -> int:
        """Outputs of the head."""
        ...

    @property
    def device(self) -> torch.device:
        """Where inputs are wanted."""
        ...

    @property
    def prepare(self) -> Callable[[Any], Tensor]:
        """Turn what the source reads into one input; equal objects are called once per image."""
        ...

    @property
    def shows(self) -> frozenset[str]:
        """What can be asked of it, names of illama.observation.WANTED."""
        ...

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        """Yield the pieces of one batch of prepared inputs."""
        ...

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return about how many bytes one image takes while it is observed."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the provenance for the header, JSON-able and the same on every machine."""
        ...


@dataclass(frozen=True, kw_only=True)
class ModelSubject:
    """A model with the transform, precision and soft mask it is run with."""

    name: str
    model: Model
    transform: Transform
    soft_mask: float = 0.0
    dtype: Dtype = "fp32"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    shows: ClassVar[frozenset[str]] = WANTED - SEGMENTER_WANTED

    @property
    def classes(self) -> int:
        """Outputs of the head."""
        return self.model.config.classes

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.class_token.device

    @property
    def prepare(self) -> Transform:
        """The model's evaluation transform."""
        return self.transform

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        """Yield the pieces of one batch of normalised images [image, 3, row, column]."""
        return self.model.observe(inputs.to(DTYPES[self.dtype]), wanted, self.soft_mask)

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return the bytes of the maps that live at a time, and of the widest activations."""
        config = self.model.config
        maps = 2 + len(wanted & {"softmax", "previous"}) + 2 * bool(wanted & LAYER_WANTED)
        activations = 8 * config.tokens * config.hidden
        return 4 * (maps * config.heads * config.tokens**2 + activations)

    def describe(self) -> dict[str, Any]:
        """Return name, provenance, config, soft mask, precision, attention path and transform."""
        return {
            "name": self.name,
            **self.provenance,
            "config": self.model.config.to_dict(),
            "soft_mask": self.soft_mask,
            "dtype": self.dtype,
            "attention": self.model.resolve_path(self.device),
            "transform": self.transform.describe(),
        }


@dataclass(frozen=True, kw_only=True)
class SavedPredictions:
    """Logits that were computed elsewhere; the source reads one row of them per image."""

    name: str
    classes: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    shows: ClassVar[frozenset[str]] = frozenset({"logits"})

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def prepare(self) -> Callable[[Any], Tensor]:
        """Turn one row into a tensor."""
        return torch.from_numpy

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        """Yield the logits; nothing else of the model is known.

        Raises:
            SubjectError: attention, tokens or features are wanted.
        """
        missing = sorted(set(wanted) - self.shows)
        if missing:
            raise SubjectError(
                f"{self.name}: saved predictions hold no {missing[0]}; give a checkpoint instead"
            )
        yield OutputSeen(logits=inputs)

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return the bytes of one row of logits, in float64."""
        del wanted
        return 16 * self.classes

    def describe(self) -> dict[str, Any]:
        """Return name and provenance."""
        return {"name": self.name, **self.provenance, "classes": self.classes}


def open_checkpoint(
    path: Path,
    *,
    device: torch.device,
    dtype: Dtype = "fp32",
    preprocess: Preprocess = "model",
    compiled: bool = False,
    name: str | None = None,
    **load: Any,
) -> ModelSubject:
    """Return a checkpoint file as a subject; `load` are the keywords of `illama.load`.

    Raises:
        CheckpointError: the file is refused.
    """
    checkpoint = read_checkpoint(path, device=str(device), **load)
    model = checkpoint.model.to(DTYPES[dtype])
    if compiled:
        model.compile_paths()
    return ModelSubject(
        name=name or path.stem,
        model=model,
        transform=evaluation_transform(model.config.image_size, preprocess),
        soft_mask=checkpoint.soft_mask,
        dtype=dtype,
        provenance=_provenance(checkpoint, preprocess),
    )


def _provenance(checkpoint: Checkpoint, preprocess: str) -> dict[str, Any]:
    """Return what the header says about a checkpoint file: never a path of this machine."""
    return {
        "file": Path(checkpoint.path).name,
        "file_sha256": checkpoint.file_sha256,
        "weights_sha256": checkpoint.sha256,
        "bytes": checkpoint.bytes,
        "layout": checkpoint.layout,
        "key": checkpoint.key,
        "epoch": checkpoint.epoch,
        "args": checkpoint.args,
        "released": checkpoint.released,
        "notes": list(checkpoint.notes),
        "preprocess": preprocess,
    }


def digest_of(subject: Subject) -> str:
    """Return the sha256 of the file that a subject came from, or of its weights."""
    described = subject.describe()
    return str(described.get("file_sha256") or described.get("weights_sha256"))


def unique_names(names: Sequence[str], digests: Iterable[str]) -> list[str]:
    """Return the names; where two are equal, `-` and 8 digits of the sha256 are added."""
    return [
        name if names.count(name) == 1 else f"{name}-{digest[:8]}"
        for name, digest in zip(names, digests, strict=True)
    ]


def open_predictions(path: Path) -> tuple[SavedPredictions, Source]:
    """Return saved predictions (`.npz`) as a subject and the source of their rows.

    Keys: `logits` or `probabilities` [image, class], `labels` [image], optional `ids` [image].

    Raises:
        SubjectError: a key is missing, shapes differ, or values are no probabilities.
    """
    arrays = _read_npz(path)
    given = arrays["logits"] if "logits" in arrays else arrays["probabilities"]
    labels = arrays["labels"].astype(np.int64)
    if given.ndim != 2 or labels.shape != (len(given),) or not given.size:  # noqa: PLR2004 - [image, class]
        raise SubjectError(f"{path}: expected scores [image, class] and labels [image]")
    scores = given if "logits" in arrays else _to_logits(path, given)
    ids = arrays.get("ids")
    names = [f"{i:06d}" for i in range(len(scores))] if ids is None else [str(i) for i in ids]
    rows: Any = np.ascontiguousarray(scores)  # read where other sources hold uint8 images
    source = make_source(
        name=path.stem,
        split="all",
        names=names,
        labels=labels,
        contents=hash_arrays(rows),
        read=partial(read_array, rows),
        in_memory=True,
    )
    subject = SavedPredictions(
        name=path.stem, classes=rows.shape[1], provenance={"file": path.name, "layout": "npz"}
    )
    return subject, source.for_head(rows.shape[1])


def _read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays, with `labels` and one kind of scores among them."""
    try:
        arrays = load_arrays(path)
    except Exception as problem:  # a damaged file raises almost anything
        raise SubjectError(f"{path}: not a readable .npz ({problem})") from problem
    if "labels" not in arrays or not {"logits", "probabilities"} & set(arrays):
        raise SubjectError(
            f"{path}: needs `labels` and `logits` or `probabilities`; "
            f"it has {', '.join(sorted(arrays)) or 'nothing'}"
        )
    for name, kinds in (("labels", "iu"), ("logits", "f"), ("probabilities", "f")):
        if name in arrays and arrays[name].dtype.kind not in kinds:
            wanted = "whole numbers" if name == "labels" else "floating-point numbers"
            raise SubjectError(f"{path}: `{name}` must be {wanted}, not {arrays[name].dtype}")
    return arrays


def _to_logits(path: Path, probabilities: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float64 logs; a zero becomes the smallest normal float32, whose log is finite."""
    exact = probabilities.astype(np.float64)
    if not ((exact >= 0) & (exact <= 1)).all() or np.abs(exact.sum(-1) - 1).max() > 1e-3:  # noqa: PLR2004 - what fp16 keeps
        raise SubjectError(f"{path}: `probabilities` must lie in 0..1 and sum to 1 in each row")
    logits: np.ndarray[Any, Any] = np.log(np.maximum(exact, np.finfo(np.float32).tiny))
    return logits
