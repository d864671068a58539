"""Saving checkpoints: the released layout, which the released code loads, and our own."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from illama.checkpoint.assumptions import Assumption
from illama.checkpoint.checksums import to_safetensors
from illama.checkpoint.formats import check_class_names, jsonable, to_official
from illama.checkpoint.torchao_tensors import is_quantized
from illama.config import Config
from illama.files import CheckpointError, replacing
from illama.model import Model
from illama.transforms import Transform


def save_checkpoint(
    model: Model,
    path: str | Path,
    *,
    soft_mask: float = 0.0,
    epoch: int | None = None,
    args: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    transform: Transform | None = None,
    assumptions: Sequence[Assumption] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint; the suffix chooses its layout, and an older file is replaced at once.

    `.pth` is the released layout, which the released code loads; its args include our config and
    soft mask. `.safetensors` has our names, and a checksum in its header.

    Args:
        model: on any device, of any dtype.
        path: ends in `.pth` or `.safetensors`.
        soft_mask: the soft mask to run the weights with.
        epoch: the last epoch that was trained, from 0.
        args: of the training; kept as JSON.
        class_names: the names of the classes 0, 1, ..., by which images are matched to them.
        transform: the evaluation transform to prepare images with.
        assumptions: what was assumed of the file that the weights come from; a load tells it again.
        extra: further entries of a `.pth` file, such as `optimizer`; tensors and plain values.

    Raises:
        CheckpointError: the suffix is neither, or the file cannot be written; what was there
            before is then intact.
    """
    path = Path(path)
    if any(is_quantized(weight) for weight in model.parameters()):
        raise CheckpointError(
            f"{path}: a quantized model has one layout, that of the file it came from; copy that "
            "file, or save the full-precision model"
        )
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    record = {"config": model.config.to_dict(), "soft_mask": float(soft_mask), "epoch": epoch}
    record["args"] = jsonable(args or {})
    if class_names is not None:
        record["class_names"] = list(check_class_names(class_names, model.config.classes))
    if transform is not None:
        record["transform"] = transform.to_dict()
    if assumptions:
        record["assumptions"] = [asdict(each) for each in assumptions]
    if path.suffix == ".safetensors" and not extra:
        with replacing(path) as stream:
            stream.write(to_safetensors(record, state))
    elif path.suffix == ".pth":
        entries = {**_official(record, state, model.config), **(extra or {})}
        with replacing(path) as stream:
            torch.save(entries, stream)
    else:
        raise CheckpointError(
            f"{path}: the suffix chooses the layout; use .pth, or .safetensors for weights only"
        )


def _official(
    record: Mapping[str, Any], state: Mapping[str, Tensor], config: Config
) -> dict[str, Any]:
    """Return a checkpoint in the released layout."""
    ours = {"illama_config": json.dumps(record["config"]), "illama_soft_mask": record["soft_mask"]}
    if "class_names" in record:
        ours["illama_class_names"] = json.dumps(record["class_names"])
    if "transform" in record:
        ours["illama_transform"] = json.dumps(record["transform"])
    if "assumptions" in record:
        ours["illama_assumptions"] = json.dumps(record["assumptions"])
    named = OrderedDict((to_official(name, config.mlp), state[name]) for name in state)
    args = Namespace()
    vars(args).update(record["args"] | ours)
    entries = {"model": named, "args": args}
    return entries if record["epoch"] is None else {**entries, "epoch": record["epoch"]}
