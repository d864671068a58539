"""Reading and writing files: checked before they are read, replaced at once when written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class CheckpointError(ValueError):
    """A file is missing, damaged, hostile or does not fit; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 3


@contextlib.contextmanager
def about(path: Path) -> Iterator[None]:
    """Put the file's name in front of any ValueError raised inside.

    Raises:
        CheckpointError: a ValueError was raised inside.
    """
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def check_readable(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        CheckpointError: it is missing, unreadable, empty or not a regular file.
    """
    if path.is_dir():
        raise CheckpointError("is a folder; name the .pth or .safetensors file in it")
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError("is not a regular file; copy it to one")
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
    except FileNotFoundError:
        raise CheckpointError("does not exist; check the name, or `illama fetch` it") from None
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from error
    if not size:
        raise CheckpointError("is empty; download or copy it again")
    return size


def require_file(path: Path) -> None:
    """Refuse a path that is no readable file, before anything slow is done.

    Raises:
        CheckpointError: as `check_readable`; the message begins with the path.
    """
    with about(path):
        check_readable(path)


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream to a temporary file in the same folder; on success it takes the file's place.

    The data reaches the disk before the name does, so a crash leaves the old file or the new one.

    Raises:
        CheckpointError: the file cannot be written; what was there before is intact.
    """
    target = path.resolve()
    if not target.parent.is_dir():
        raise CheckpointError(f"{path}: its folder does not exist; make it first")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: {_why(error)}; nothing was changed") from error
    finally:
        temporary.unlink(missing_ok=True)


def _why(error: Exception) -> str:
    """Return why writing failed; torch's writer reports a short write without a number."""
    short_write = isinstance(error, RuntimeError) and "inline_container" in str(error)
    if short_write or getattr(error, "errno", None) in _FULL:
        return "disk full or file size limit reached while writing"
    return f"cannot be written ({first_line(error)})"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
