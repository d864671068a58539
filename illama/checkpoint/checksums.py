"""Digests of weights, and our safetensors files, whose header has a checksum of all they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from illama.files import CheckpointError


def sha256_of_weights(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, shapes, types and bytes of weights, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_safetensors(record: Mapping[str, Any], state: Mapping[str, Tensor]) -> bytes:
    """Return a safetensors file of weights: its header has the record, as JSON, and a checksum."""
    header = json.dumps({**record, "checksum": _checksum(record, state)}, sort_keys=True)
    return safetensors.torch.save(dict(state), {"illama": header})


def check_checksum(header: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Compare the checksum in the header of our safetensors file with what the file holds.

    Raises:
        CheckpointError: they differ, or the header has none.
    """
    record = {key: value for key, value in header.items() if key != "checksum"}
    if header.get("checksum") != _checksum(record, state):
        raise CheckpointError("checksum mismatch: the file is damaged; download or copy it again")


def _checksum(record: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Return a sha256 over a file's weights and the record in its header."""
    text = json.dumps(record, sort_keys=True) + sha256_of_weights(state)
    return hashlib.sha256(text.encode()).hexdigest()
