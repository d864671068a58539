"""Checkpoints in several safetensors files with an index, as Hugging Face writes large ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from illama.files import CheckpointError

INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.safetensors")


def index_of(path: Path) -> Path | None:
    """Return the index of the checkpoint that a file is, or is a part of; None: it is whole.

    Raises:
        CheckpointError: it is a part, and the index is not beside it.
    """
    if path.name.endswith(INDEX):
        return path
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return None
    index = path.with_name(f"{match['stem']}{INDEX}")
    if not index.is_file():
        raise CheckpointError(
            f"is part {int(match['part'])} of {int(match['parts'])} of a checkpoint, and "
            f"{index.name} is not beside it; get the index and all parts"
        )
    return index


def read_index(index: Path) -> dict[Path, set[str]]:
    """Return the files of an index, in the order of their names, and the weights in each.

    Raises:
        CheckpointError: it is not an index, or names files elsewhere, or one that is missing.
    """
    try:
        listed = json.loads(index.read_text("utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{index.name} is not an index of safetensors files") from None
    if not isinstance(listed, Mapping) or not listed:
        raise CheckpointError(f"{index.name} lists no weights")
    weights: dict[Path, set[str]] = {}
    for weight, name in sorted(listed.items(), key=lambda item: str(item[1])):
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index.name} names {name!r}, which is not a file beside it")
        weights.setdefault(index.with_name(name), set()).add(weight)
    missing = next((path for path in weights if not path.is_file()), None)
    if missing is not None:
        raise CheckpointError(f"its part {missing.name} is not beside {index.name}; get all parts")
    return weights
