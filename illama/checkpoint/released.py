"""The checkpoints that the authors published: sha256, size, accuracy, and their download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from illama.files import CheckpointError, first_line, replacing, sha256_of_file
from illama.suggestions import did_you_mean

HUB = "https://huggingface.co/techmonsterwang/iLLaMA/resolve/main"
"""The authors' folder on the model hub."""

CHUNK = 1 << 20
TIMEOUT = 30
"""Seconds without an answer after which a download has failed."""
LONGER = 1.05
"""Factor of the published size at which a download is aborted."""


@dataclass(frozen=True, kw_only=True)
class Released:
    """One published checkpoint."""

    name: str
    sha256: str
    """Of the file's bytes."""
    megabytes: float
    top1: float
    """Published ImageNet-1K top-1, a fraction (paper, Table 6)."""


RELEASED = (
    Released(
        name="illama-tiny-in1k-75.0",
        sha256="ec1843fa444e0516fc84ac0dd1f0ba8e0bd1b3affb576b4080273b5e1115582a",
        megabytes=68.5,
        top1=0.750,
    ),
    Released(
        name="illama-small-in1k-79.9",
        sha256="89c9461ec3a00c5067d10f7fdb6594291bb58596514a6010e46376ed7338615d",
        megabytes=264,
        top1=0.799,
    ),
    Released(
        name="illama-base-in1k-81.6",
        sha256="bae9ec0ab65fba452949e9310ad618b45006e47821f41ef633637191e3b38224",
        megabytes=1038.1,
        top1=0.816,
    ),
    Released(
        name="illama-base-in1k-384-83.0",
        sha256="c5177f3074bc67159d4c16f0f1b51b3bc4d10eeceb18cfd2e4b2d1ead488efa5",
        megabytes=1041.6,
        top1=0.830,
    ),
    Released(
        name="illama-base-in21kin1k-224-83.6",
        sha256="370346f84467702cc85bb9081ddf99df60489ef296ad3d908716e40a32975492",
        megabytes=1038.1,
        top1=0.836,
    ),
    Released(
        name="illama-base-in21kin1k-384-85.0",
        sha256="ee3348a612f4c0bda471991eb4dbf6b4be5960379a34c3010a0bb2c9d1b07bff",
        megabytes=1041.6,
        top1=0.850,
    ),
    Released(
        name="illama-large-in21kin1k-224-84.8",
        sha256="e34f6ea5bd2f488c68a0ee1f7a62ac233c21b6d566d3865b59d93f8e9be2ad94",
        megabytes=3725.6,
        top1=0.848,
    ),
    Released(
        name="illama-large-in21kin1k-384-86.0",
        sha256="91b9a558475a3b3c694094f7ba7334cae7ba865a26d72a4dcbee4b3264592b04",
        megabytes=3730.2,
        top1=0.860,
    ),
)


def identify(sha256: str) -> Released | None:
    """Return the published file with this sha256."""
    return next((file for file in RELEASED if file.sha256 == sha256), None)


def address(file: Released, base: str = HUB) -> str:
    """Return where a published file is downloaded from."""
    return f"{base.rstrip('/')}/{file.name}.pth"


def named(name: str) -> Released:
    """Return the published file of this name; a trailing `.pth` is allowed.

    Raises:
        CheckpointError: nothing of this name was published.
    """
    wanted = name.removesuffix(".pth")
    found = next((file for file in RELEASED if file.name == wanted), None)
    if found is None:
        known = [file.name for file in RELEASED]
        hint = did_you_mean(wanted, known) or f": {', '.join(known)}"
        raise CheckpointError(f"{name!r} is not one of the published files{hint}")
    return found


def fetch(
    file: Released,
    out: Path,
    *,
    base: str = HUB,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Path:
    """Download a published file, verify its sha256 and return its path.

    Args:
        file: what to download.
        out: a folder, or the path to write.
        base: address of the folder that holds the published files (http or https).
        overwrite: replace another file at the path.
        progress: called with the number of bytes of each chunk.

    Raises:
        CheckpointError: the download failed, the bytes are not the published ones, or another file
            is at the path; no partial file remains.
    """
    path = out / f"{file.name}.pth" if out.is_dir() else out
    if path.exists() and not overwrite:
        if path.is_file() and sha256_of_file(path) == file.sha256:
            return path
        raise CheckpointError(
            f"{path}: another file exists already; pass --overwrite to replace it"
        )
    source = address(file, base)
    digest = hashlib.sha256()
    with replacing(path) as stream:
        for chunk in _download(source, limit=int(LONGER * file.megabytes * 1e6)):
            digest.update(chunk)
            stream.write(chunk)
            progress(len(chunk))
        if digest.hexdigest() != file.sha256:
            raise CheckpointError(
                f"{source}: sha256 is {digest.hexdigest()}, published was {file.sha256}; "
                "the download is incomplete or the file was changed: try again"
            )
    return path


def _download(source: str, limit: int) -> Iterator[bytes]:
    """Yield the bytes at an address."""
    if urlsplit(source).scheme not in ("http", "https"):
        raise CheckpointError(f"{source}: is not an http or https address")
    request = Request(source, headers={"User-Agent": "illama"})  # noqa: S310 - the scheme was checked
    received = 0
    try:
        with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310 - the scheme was checked
            while chunk := response.read(CHUNK):
                received += len(chunk)
                if received > limit:
                    raise CheckpointError(
                        f"{source}: is larger than the published file; check the address"
                    )
                yield chunk
    except (OSError, HTTPException) as error:
        raise CheckpointError(
            f"{source}: download failed ({first_line(error)}); on a machine without network, "
            "copy the file from this address and name its path"
        ) from error
