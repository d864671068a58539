"""Probes: images whose later patches are replaced or left out, shown to the same subject."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from illama.observation import LayerSeen, OutputSeen, Piece

SHARES = (0.25, 0.5, 0.75)
"""Shares of the patches that stay, unless a study says otherwise."""
PROBED_IMAGES = 256
"""Images that a probe takes unless it says otherwise, those of smallest hash."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A further pass over some images of which only the first patches stay, in raster order.

    Which images, which share of each, and what replaces the rest follow from the ids of the source
    alone, so that rows do not depend on how the images fall into batches.

    Raises:
        ValueError: a share is not between 0 and 1, or the number of images is not positive.
    """

    rest: Literal["replaced", "closed"]
    """What becomes of the later patches. `replaced`: they are those of the next image in the order
    of hashes. `closed`: the model is not given them, nor their positions."""
    kept: tuple[float, ...]
    """Shares of the patches that stay, above 0 and below 1; an image's hash chooses one."""
    images: int | None = PROBED_IMAGES
    """How many images, those of smallest hash; None for all."""

    def __post_init__(self) -> None:
        if not self.kept or not all(0 < share < 1 for share in self.kept):
            raise ValueError(f"probe: kept {self.kept} are not shares above 0 and below 1")
        if self.images is not None and self.images < 1:
            raise ValueError(f"probe: {self.images} is not a positive number of images")

    @property
    def name(self) -> str:
        """The name by which a study knows the pieces of its own probes."""
        shares = "/".join(f"{share:g}" for share in self.kept)
        return f"{self.rest} {shares} of {'all' if self.images is None else self.images}"

    def number(self, count: int) -> int:
        """Return how many of the source's images it takes."""
        return count if self.images is None else min(self.images, count)

    def choose(self, order: Tensor, count: int) -> Tensor:
        """Return which images it takes, bool [image], by the ranks of their hashes among all."""
        return order < self.number(count)

    def kept_patches(self, keys: Tensor, patches: int) -> Tensor:
        """Return how many patches of each image stay, int64 [image], by hashes on the CPU."""
        counts = torch.tensor(self.counts(patches))
        return counts[keys.remainder(len(counts))]

    def counts(self, patches: int) -> tuple[int, ...]:
        """Return how many of so many patches each share is, at least one and not all."""
        most = max(1, patches - 1)
        return tuple(min(max(1, round(share * patches)), most) for share in self.kept)


def probes_of(study: object) -> tuple[Probe, ...]:
    """Return the probes that a study, or another collector, declares; most declare none."""
    declared: tuple[Probe, ...] = getattr(study, "probes", ())
    return declared


def union_of(studies: Iterable[object]) -> dict[Probe, frozenset[str]]:
    """Return the probes of all studies, each with what its studies want of a model."""
    wanted: dict[Probe, frozenset[str]] = {}
    for study in studies:
        for probe in probes_of(study):
            wants: frozenset[str] = getattr(study, "wants", frozenset())
            wanted[probe] = wanted.get(probe, frozenset()) | wants
    return wanted


def is_for(piece: Piece, study: object) -> bool:
    """Return whether a study is to see the piece: one of unchanged images, or of its own probes."""
    if isinstance(piece, LayerSeen | OutputSeen) and piece.changed is not None:
        return piece.changed.probe in {probe.name for probe in probes_of(study)}
    return True


def replace_patches(images: Tensor, others: Tensor, kept: Tensor, grid: int) -> Tensor:
    """Return images [image, channel, row, column] whose later patches are those of `others`.

    `kept` int64 [image] is the number of patches that stay, in raster order over `grid` x `grid`.
    """
    side = images.shape[-1] // grid
    later = torch.arange(grid * grid, device=images.device) >= kept[:, None]
    pixels = later.view(-1, 1, grid, grid).repeat_interleave(side, 2).repeat_interleave(side, 3)
    return torch.where(pixels, others, images)
