"""The protocol of a subject: what is measured, a model or saved predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from illama.observation import Piece


class SubjectError(ValueError):
    """A subject or an option that cannot be measured; one line, with what to do."""

    exit_code: ClassVar[int] = 3


class Subject(Protocol):
    """What the loop needs of a model, or of saved predictions."""

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
        """Device of the inputs."""
        ...

    @property
    def prepare(self) -> Callable[[Any], Tensor]:
        """Turn what the source reads into one input; equal objects are called once per image."""
        ...

    @property
    def shows(self) -> frozenset[str]:
        """What it can show, names of illama.observation.WANTED."""
        ...

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        """Yield the pieces of one batch of prepared inputs."""
        ...

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return about the bytes that one image takes while it is observed."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the provenance for the header, JSON-able and the same on every machine."""
        ...


@runtime_checkable
class PatchSubject(Subject, Protocol):
    """A subject whose patches can be replaced or left out; it shows `replaced` and `closed`."""

    @property
    def patch_grid(self) -> int:
        """Patches along a side of the image."""
        ...

    def observe_first(self, inputs: Tensor, wanted: Iterable[str], patches: int) -> Iterator[Piece]:
        """Yield the pieces of one batch of which it is given the first patches alone."""
        ...


def digest_of(subject: Subject) -> str:
    """Return the sha256 of the file that a subject came from, or of its weights."""
    described = subject.describe()
    return str(described.get("file_sha256") or described.get("weights_sha256"))


def class_names_of(subject: Subject) -> tuple[str, ...] | None:
    """Return the names of a subject's classes 0, 1, ..., or None where it has none."""
    names = subject.describe().get("class_names")
    return None if names is None else tuple(names)


def unique_names(names: Sequence[str], digests: Iterable[str]) -> list[str]:
    """Return the names; where two are equal, `-` and 8 digits of the sha256 are added.

    Of the same file several times, the second has ` (2)` after that, and so on.
    """
    longer = [
        name if names.count(name) == 1 else f"{name}-{digest[:8]}"
        for name, digest in zip(names, digests, strict=True)
    ]
    before = [longer[:place].count(name) for place, name in enumerate(longer)]
    return [f"{name} ({n + 1})" if n else name for name, n in zip(longer, before, strict=True)]
