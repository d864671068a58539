"""Subjects that are checkpoints of illama, a ViT or a DeiT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from illama.arithmetic import DTYPES
from illama.checkpoint.checksums import sha256_of_weights
from illama.checkpoint.load import Checkpoint, read_checkpoint
from illama.checkpoint.torchao_tensors import is_quantized
from illama.config import Dtype
from illama.model import Model
from illama.observation import LAYER_WANTED, SEGMENTER_WANTED, SOURCE_WANTED, WANTED, Piece
from illama.preprocessing import Preprocess
from illama.transforms import Transform
from illama_eval.subjects.subject import Subject, SubjectError

DEMO_CHECKPOINT = Path(__file__).parents[1] / "demo" / "illama_demo_nano.safetensors"
"""The bundled checkpoint, trained on the demo images by `illama train demo`."""
CONTROL = "random"
"""Name of the control with random weights."""


@dataclass(frozen=True, kw_only=True)
class ModelSubject:
    """A model with the transform, precision and soft mask it is run with."""

    name: str
    model: Model
    transform: Transform
    soft_mask: float = 0.0
    dtype: Dtype = "fp32"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    shows: ClassVar[frozenset[str]] = WANTED - SEGMENTER_WANTED - SOURCE_WANTED

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

    @property
    def patch_grid(self) -> int:
        """Patches along a side of the image."""
        return self.model.config.grid

    def observe_first(self, inputs: Tensor, wanted: Iterable[str], patches: int) -> Iterator[Piece]:
        """Yield the pieces of one batch of which the model is given the first patches alone."""
        images = inputs.to(DTYPES[self.dtype])
        return self.model.observe(images, wanted, self.soft_mask, patches)

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return the bytes of the maps that exist at a time, and of the widest activations.

        A fused product forms no map.
        """
        config = self.model.config
        observed = wanted & LAYER_WANTED
        formed = observed or self.model.resolve_path(self.device) == "explicit"
        maps = 2 + len(wanted & {"softmax", "previous"}) + 2 * bool(observed) if formed else 0
        activations = 8 * config.tokens * config.hidden
        return DTYPES[self.dtype].itemsize * (maps * config.heads * config.tokens**2 + activations)

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


def as_checkpoint(subject: Subject, need: str) -> ModelSubject:
    """Return the subject, if it is one of illama's models.

    Raises:
        SubjectError: it is not; `need` is the reason in the message.
    """
    if not isinstance(subject, ModelSubject):
        raise SubjectError(f"{subject.name}: {need}")
    return subject


def in_full_precision(subject: ModelSubject, need: str) -> ModelSubject:
    """Return the subject, if its weights are not quantized.

    Raises:
        SubjectError: they are; `need` is the reason in the message.
    """
    if any(is_quantized(weight) for weight in subject.model.parameters()):
        raise SubjectError(
            f"{subject.name}: is quantized, and {need}; give the full-precision file"
        )
    return subject


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
    note = model.compile_paths() if compiled else ""
    return ModelSubject(
        name=name or path.stem,
        model=model,
        transform=checkpoint.transform.with_preprocess(preprocess),
        soft_mask=checkpoint.soft_mask,
        dtype=dtype,
        provenance=_provenance(checkpoint, preprocess, note),
    )


def _provenance(checkpoint: Checkpoint, preprocess: str, note: str) -> dict[str, Any]:
    """Return the provenance of a checkpoint file for the header, without a path."""
    assumed = [
        each.to_dict()
        for each in checkpoint.assumptions
        if preprocess == "model" or each.what != "resizing"
    ]
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
        "notes": [*checkpoint.notes, *filter(None, [note])],
        "class_names": None if checkpoint.class_names is None else list(checkpoint.class_names),
        "preprocess": preprocess,
        "assumptions": assumed,
        "overrides": [each.to_dict() for each in checkpoint.overrides],
    }


def with_random_weights(subject: ModelSubject, seed: int = 0) -> ModelSubject:
    """Return the subject with freshly drawn weights, run in the same way."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(subject.model.config)
    digest = sha256_of_weights(model.state_dict())
    return replace(
        subject,
        name=CONTROL,
        model=model.to(subject.device, DTYPES[subject.dtype]).eval(),
        provenance={"weights_sha256": digest, "weights": f"random, seed {seed}"},
    )
