"""Checkpoints of segmenters, in our own layout: weights, and a record of the architecture."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from illama.checkpoint.archive import Archive, unpack
from illama.checkpoint.checksums import check_checksum, sha256_of_weights, to_safetensors
from illama.checkpoint.formats import jsonable
from illama.config import Config
from illama.files import CheckpointError, about, replacing
from illama.upernet import Segmenter, SegmenterConfig

RECORD = "segmenter"
"""Key of the header that marks a segmenter."""
ARGUMENT = "illama_segmenter"
"""The same record among the arguments of a `.pth`."""


@dataclass(frozen=True, kw_only=True)
class SegmenterCheckpoint:
    """A loaded segmenter with its provenance."""

    segmenter: Segmenter
    """On the requested device, in fp32, in evaluation mode."""
    soft_mask: float
    sha256: str
    """Of the weights: names, shapes, types and bytes."""
    file_sha256: str
    bytes: int
    epoch: int | None
    args: dict[str, Any]
    names: tuple[str, ...]
    """Of the classes of pixels; empty where they are not known."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the weights in JSON types."""
        config = self.segmenter.segmenter_config
        return {
            "layout": "illama segmenter",
            "bytes": self.bytes,
            "file_sha256": self.file_sha256,
            "sha256": self.sha256,
            "epoch": self.epoch,
            "args": self.args,
            "backbone": config.backbone.to_dict(),
            "blocks": list(config.blocks),
            "classes": config.classes,
            "names": list(self.names),
            "soft_mask": self.soft_mask,
            "parameters": sum(each.numel() for each in self.segmenter.parameters()),
        }


def is_segmenter(path: str | Path) -> bool:
    """Return whether a file is a segmenter's checkpoint.

    Raises:
        CheckpointError: it is missing, damaged or hostile.
    """
    with about(Path(path)):
        return _record(unpack(Path(path))) is not None


def save_segmenter(
    segmenter: Segmenter,
    path: Path,
    *,
    soft_mask: float = 0.0,
    epoch: int | None = None,
    args: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    names: tuple[str, ...] = (),
) -> None:
    """Write a segmenter as `.safetensors` or, with further entries in `extra`, as `.pth`.

    Raises:
        CheckpointError: the suffix is neither, or the file cannot be written.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in segmenter.state_dict().items()}
    config = segmenter.segmenter_config
    built = {
        "backbone": config.backbone.to_dict(),
        "classes": config.classes,
        "blocks": list(config.blocks),
        "names": list(names),
    }
    about_training = jsonable(dict(args or {}))
    record = {RECORD: built, "soft_mask": float(soft_mask), "epoch": epoch, "args": about_training}
    if path.suffix == ".safetensors" and not extra:
        with replacing(path) as stream:
            stream.write(to_safetensors(record, state))
    elif path.suffix == ".pth":
        arguments = Namespace()
        vars(arguments).update(about_training)
        vars(arguments)[ARGUMENT] = json.dumps(record)
        with replacing(path) as stream:
            torch.save({"model": state, "args": arguments, **(extra or {})}, stream)
    else:
        raise CheckpointError(
            f"{path}: a segmenter is saved as .pth or .safetensors; use one of these suffixes"
        )


def read_segmenter(
    path: str | Path, *, image_size: int | None = None, device: str | torch.device = "cpu"
) -> SegmenterCheckpoint:
    """Return the segmenter of a checkpoint; no code in the file runs.

    `image_size` resizes the position table, except the class token's row.

    Raises:
        CheckpointError: the file is missing, damaged, hostile or not a segmenter, or does not fit.
    """
    path = Path(path)
    with about(path):
        archive = unpack(path)
        record = _record(archive)
        if record is None:
            raise CheckpointError(
                "has no segmentation head; make a checkpoint with one by `illama train segment`"
            )
        state = _state(archive, record)
        config = _config(record)
        segmenter = Segmenter(config)
        _fill(segmenter, state)
        if image_size is not None and image_size != config.backbone.image_size:
            segmenter = segmenter.with_image_size(image_size)
    return SegmenterCheckpoint(
        segmenter=segmenter.to(device).eval(),
        soft_mask=float(record.get("soft_mask", 0.0)),
        sha256=sha256_of_weights(state),
        file_sha256=archive.sha256,
        bytes=archive.bytes,
        epoch=record.get("epoch"),
        args=dict(record.get("args") or {}),
        names=tuple(map(str, record[RECORD].get("names", ()))),
    )


def _record(archive: Archive) -> dict[str, Any] | None:
    """Return the record of a segmenter; None where the file is not one."""
    if isinstance(archive.metadata.get(RECORD), dict):
        return dict(archive.metadata)
    args = archive.payload.get("args")
    written = getattr(args, ARGUMENT, None) if isinstance(args, Namespace) else None
    if not isinstance(written, str):
        return None
    try:
        found = json.loads(written)
    except ValueError:
        raise CheckpointError(
            "its record of a segmenter is damaged; download or copy it again"
        ) from None
    return found if isinstance(found, dict) and isinstance(found.get(RECORD), dict) else None


def _state(archive: Archive, record: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the weights, checked against the checksum where there is one."""
    if not archive.metadata:
        state = archive.payload.get("model")
        if not isinstance(state, Mapping):
            raise CheckpointError("has no weights under 'model'; download or copy it again")
        return state
    check_checksum(record, archive.payload)
    return archive.payload


def _config(record: Mapping[str, Any]) -> SegmenterConfig:
    """Return the segmenter's architecture from its record."""
    built = record[RECORD]
    try:
        return SegmenterConfig(
            backbone=Config.from_dict(built["backbone"]),
            classes=int(built["classes"]),
            blocks=tuple(map(int, built["blocks"])),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise CheckpointError(f"its record of a segmenter does not fit ({problem})") from None


def _fill(segmenter: Segmenter, state: Mapping[str, Tensor]) -> None:
    """Load exactly these weights into the segmenter."""
    own = segmenter.state_dict()
    wrong = [
        *(name for name in own if name not in state or state[name].shape != own[name].shape),
        *(name for name in state if name not in own),
    ]
    if wrong:
        raise CheckpointError(f"{len(wrong)} weights do not fit its config (first: {wrong[0]})")
    segmenter.load_state_dict({name: each.to(own[name].dtype) for name, each in state.items()})
