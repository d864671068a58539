"""Safe reading of checkpoint files that may be damaged or hostile: no code in them runs.

Three containers are recognised by content: torch's zip archives, its older pickle streams, and
safetensors. Zip members have checksums, which torch itself does not verify.
"""

from __future__ import annotations

import hashlib
import json
import pickletools
import re
import threading
import warnings
import zipfile
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import torch
from torch import Tensor

from illama.checkpoint.containers import Container, check_zip, recognise
from illama.checkpoint.shards import index_of, read_index
from illama.files import CheckpointError, check_readable, first_line, sha256_of_file

LEGACY_PICKLES = 5
"""Pickles in an old file: magic number, protocol, system, payload and storage keys."""

SHARED = 4
"""Times that tensors may share a file's bytes; more is taken for a decompression bomb."""

_LOCK = threading.Lock()
_FOLDER = 0x10
_ALLOWED = re.compile(
    r"argparse\.Namespace|collections\.(OrderedDict|Counter)|(__builtin__|builtins)\.set"
    r"|_codecs\.encode|torch\.(Size|device|(b?float|u?int|complex|bool)\w*)"
    r"|torch(\.storage|\.cuda)?\.\w*Storage|torch\.nn\.parameter\.Parameter"
    r"|torch\._utils\._rebuild_(tensor_v2|tensor_v3|parameter)"
)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The content of a checkpoint file, on the CPU, unchanged."""

    payload: Mapping[str, Any]
    """The top-level dictionary; of safetensors, the tensors."""
    metadata: Mapping[str, Any]
    """Our own record in a safetensors header; empty in other files."""
    container: Container
    sha256: str
    """Of the file's bytes; of several, of their sha256 in the order of their names."""
    bytes: int


def unpack(path: Path) -> Archive:
    """Read a checkpoint file without trusting it.

    Raises:
        CheckpointError: the file is missing, damaged, hostile or not a checkpoint.
    """
    size = check_readable(path)
    index = index_of(path)
    if index is not None:
        return _unpack_shards(index)
    with path.open("rb") as stream:
        container = recognise(stream.read(64))
    payload: object
    if container == "safetensors":
        payload, metadata = _read_safetensors(path)
    else:
        payload, metadata = _read_torch(path, container, size), {}
    if not isinstance(payload, Mapping):
        raise CheckpointError(f"contains a {type(payload).__name__}, not a dictionary of weights")
    return Archive(
        payload=payload,
        metadata=metadata,
        container=container,
        sha256=sha256_of_file(path),
        bytes=size,
    )


def _unpack_shards(index: Path) -> Archive:
    """Read all files of an index as one."""
    files = read_index(index)
    payload: dict[str, Any] = {}
    for path, names in files.items():
        tensors, _ = _read_safetensors(path)
        lacking = sorted(names - tensors.keys())
        if lacking:
            raise CheckpointError(f"{path.name} lacks {lacking[0]}, which {index.name} lists in it")
        payload |= tensors
    digests = "".join(map(sha256_of_file, files))
    return Archive(
        payload=payload,
        metadata={},
        container="safetensors",
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        bytes=sum(path.stat().st_size for path in files),
    )


def _read_safetensors(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the tensors, and our record in the header if there is one."""
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        metadata = json.loads(header.get("illama", "{}"))
    except Exception as error:  # damage surfaces as any exception
        raise CheckpointError(f"is damaged or truncated ({first_line(error)})") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(
            "is damaged: the record in its header is not a dictionary; download it again"
        )
    return tensors, metadata


def _read_torch(path: Path, container: Container, size: int) -> object:
    """Return the payload of a torch file after its members, names and sizes were checked."""
    try:
        sizes = _check_members(path, size) if container == "zip" else set()
        _check_globals(path, container)
        if container == "zip":
            _check_sizes(_load(path, "meta"), size, sizes)
        payload = _load(path, "cpu")
    except CheckpointError:
        raise
    except Exception as error:  # damage surfaces as any exception
        raise CheckpointError(f"is damaged or truncated ({first_line(error)})") from error
    _check_sizes(payload, size, sizes)
    return payload


def _load(path: Path, device: str) -> object:
    """Call torch.load with Namespace as the only addition to what it allows.

    The list of allowed names is global to the process, hence the lock; names that others added
    remain.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        added = {Namespace}.difference(torch.serialization.get_safe_globals())
        with torch.serialization.safe_globals(list(added)):
            return torch.load(path, map_location=device, weights_only=True)


def _check_members(path: Path, size: int) -> set[int]:
    """Compare every checksum of a zip archive; return the sizes of its members."""
    with zipfile.ZipFile(path) as opened:
        members = opened.infolist()
        check_zip([member.filename for member in members])
        name, count = Counter(member.filename for member in members).most_common(1)[0]
        if count > 1:
            raise CheckpointError(f"contains {name!r} {count} times; it was tampered with")
        for member in members:
            _check_member(member)
        if sum(member.file_size for member in members) > size:
            raise CheckpointError("declares more bytes than it has; it was tampered with")
        broken = opened.testzip()
    if broken is not None:
        raise CheckpointError(
            f"checksum mismatch in {broken!r}: the file is damaged; download or copy it again"
        )
    return {member.file_size for member in members}


def _check_member(member: zipfile.ZipInfo) -> None:
    """Refuse what torch.save never writes, and what torch and Python would read differently.

    Torch does not read a member marked as a folder and leaves its weight uninitialised.
    """
    if member.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(
            f"member {member.filename!r} is compressed, which torch.save never does; "
            "save it again with torch.save"
        )
    if member.external_attr & _FOLDER or member.is_dir():
        raise CheckpointError(
            f"member {member.filename!r} is marked as a folder: it is damaged; download it again"
        )


def _check_globals(path: Path, container: Container) -> None:
    """Refuse any name that the pickle would look up and that no checkpoint needs."""
    if container == "legacy":
        with path.open("rb") as stream:
            found = [name for _ in range(LEGACY_PICKLES) for name in _globals_of(stream)]
    else:
        with zipfile.ZipFile(path) as opened:
            pickles = [name for name in opened.namelist() if name.endswith(".pkl")]
            found = []
            for name in pickles:
                with opened.open(name) as member:
                    found += _globals_of(member)
    foreign = sorted({name for name in found if not _ALLOWED.fullmatch(name)})
    if foreign:
        raise CheckpointError(
            f"needs {foreign[0]!r} to load, which could run code, so it is refused; where it was "
            "made, save it again with plain values: torch.save({'model': model.state_dict()}, path)"
        )


def _globals_of(stream: BinaryIO | Any) -> Iterator[str]:
    """Yield the names that one pickle looks up, without looking them up."""
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif operation.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            raise CheckpointError(
                "uses a pickle protocol that cannot be checked; save it again with torch.save"
            )


def _check_sizes(payload: object, size: int, members: set[int]) -> None:
    """Refuse tensors that claim more bytes than the file has, before anything copies them."""
    total = 0
    for tensor in _tensors_in(payload):
        claimed = tensor.numel() * tensor.element_size()
        held = tensor.untyped_storage().nbytes()
        total += claimed
        if claimed > held or (members and held not in members) or total > SHARED * size:
            raise CheckpointError(
                f"a tensor of shape {list(tensor.shape)} claims more bytes than the file has; "
                "save it again with .contiguous() tensors"
            )


def _tensors_in(payload: object) -> Iterator[Tensor]:
    """Yield every tensor once; containers that share parts are walked once, too."""
    seen: set[int] = set()
    waiting = [payload]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set)):
            waiting += value
        elif isinstance(value, Namespace):
            waiting += vars(value).values()
