"""Averages of attention maps over groups of images, from sums by group.

The rank of a mean map has no mean over images behind it, so that its interval is a jackknife over
groups; and it falls with the number of images averaged, so that it is also taken of few images and
of some groups. All are averages of the same sums: of GROUPS groups of equally many images, and of
DRAWS draws of as many images as the paper's, both by the order of the ids' hashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from illama.arithmetic import to_numpy

GROUPS = 20
"""Groups of the jackknife, at most."""
DRAWN = 30
"""Images of a draw: as many as the paper averages (Wang et al. 2024, Fig. 4)."""
DRAWS = 10
"""Draws of so few images, at most."""
BUDGET = 2**30
"""Bytes that the sums of all layers may take; larger maps have fewer groups and draws."""
LAYERS = 24
"""Layers that the budget is for."""
BLOCKS = 4
"""Averages at each number of images of the curve, at most; of single draws, all."""


@dataclass(frozen=True)
class Slots:
    """How many sums of maps are kept, by group and by draw."""

    groups: int
    draws: int

    @classmethod
    def of(cls, shape: torch.Size, kinds: int) -> Slots:
        """Return the slots for one layer's maps [..., head, query, key] of so many kinds."""
        fits = BUDGET // (LAYERS * kinds * 8 * shape[-3] * shape[-2] * shape[-1])
        draws = max(1, min(DRAWS, fits // 3))
        return cls(groups=max(2, min(GROUPS, fits - draws)), draws=draws)

    def members(self, order: Tensor, count: int) -> Tensor:
        """Return which images are in which slot, float64 [slot, image]: groups, then draws.

        `order` is each image's rank by hash among the `count` images of the source.
        """
        group = torch.div(order * self.groups, count, rounding_mode="floor")
        draw = torch.div(order, DRAWN, rounding_mode="floor")
        draw = draw.where(draw < min(self.draws, count // DRAWN), -1)
        slots = (
            group == torch.arange(self.groups, device=order.device)[:, None],
            draw == torch.arange(self.draws, device=order.device)[:, None],
        )
        return torch.cat(slots).to(torch.float64)

    def averages(self, images: Tensor) -> Averages:
        """Return which slots the averages are over, given the images in each slot [slot]."""
        whole = torch.zeros((1, len(images)), dtype=torch.float64)
        whole[:, : self.groups] = 1.0
        filled = [group for group in range(self.groups) if images[group]]
        left_out = whole.repeat(len(filled), 1)
        left_out[range(len(filled)), filled] = 0.0
        curve = dict(self._blocks(images))
        rows = [whole, left_out, *curve.values()]
        return Averages(
            over=torch.cat(rows),
            left_out=len(filled),
            blocks={x: len(b) for x, b in curve.items()},
            images=float(images[: self.groups].sum()),
        )

    def _blocks(self, images: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield images averaged, and which slots, [block, slot]: draws first, then groups.

        All groups together are left to the first average.
        """
        reached = 0.0
        drawn = sum(bool(images[self.groups + draw]) for draw in range(self.draws))
        for first, number in ((self.groups, drawn), (0, self.groups)):
            for size in _doublings(number):
                if not first and size == self.groups:
                    continue
                most = number if first and size == 1 else min(BLOCKS, number // size)
                over = torch.zeros((most, len(images)), dtype=torch.float64)
                for block in range(most):
                    over[block, first + block * size : first + (block + 1) * size] = 1.0
                averaged = over @ images
                if averaged.mean() > reached and bool((averaged > 0).all()):
                    reached = float(averaged.mean())
                    yield reached, over


def _doublings(number: int) -> list[int]:
    """Return 1, 2, 4 and so on up to a number, and the number itself."""
    return sorted({min(2**power, number) for power in range(number.bit_length() + 1)} - {0})


@dataclass(frozen=True)
class Averages:
    """Averages of maps: over all groups, all but one, and over some of them or of the draws."""

    over: Tensor
    """Which slots each average is over, float64 [average, slot]; the first is over all images."""
    left_out: int
    """Averages after the first that leave a group out."""
    blocks: Mapping[float, int]
    """Images averaged -> how many averages are of so many, in the order of the last ones."""
    images: float
    """Images that the first average is over."""

    def of(self, sums: Tensor, images: Tensor) -> Tensor:
        """Return the averages [average, ...] of sums [slot, ...], given the images in each slot."""
        total = (self.over @ sums.flatten(1)) / (self.over @ images)[:, None]
        return total.reshape(len(self.over), *sums.shape[1:])

    def of_all(self, images: Tensor) -> Tensor:
        """Return the number of all images, given those in each slot."""
        return self.over[0] @ images

    def jackknife(self, values: Tensor) -> Tensor:
        """Return the value over all images, then without each group, of values [average, ...]."""
        return values[: 1 + self.left_out]

    def curve(self, values: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield images averaged and the values of so many, of values [average]; last of all."""
        start = 1 + self.left_out
        for images, number in self.blocks.items():
            yield images, values[start : start + number]
            start += number
        if self.images > max(self.blocks, default=0.0):
            yield self.images, values[:1]


def sum_by_slot(maps: Tensor, members: Tensor) -> Tensor:
    """Return sums over the images of each slot, float64 [slot, head, query, key].

    Takes maps [image, head, query, key] and members [slot, image]. An image is in two slots at
    most, so that on a CPU only these are filled, and the result is sparse; on a GPU that would wait
    for the host.
    """
    shape = (len(members), *maps.shape[1:])
    if maps.device.type != "cpu":
        heads = [members @ head.flatten(1).to(torch.float64) for head in maps.unbind(1)]
        return torch.stack(heads, dim=1).reshape(shape)
    numbers = to_numpy(maps)
    slots, images = members.numpy().nonzero()
    filled, places = np.unique(slots, return_inverse=True)
    sums = np.zeros((len(filled), *shape[1:]))
    for place, image in zip(places, images, strict=True):
        sums[place] += numbers[image]
    index, values = torch.from_numpy(filled[None]), torch.from_numpy(sums)
    return torch.sparse_coo_tensor(index, values, shape, is_coalesced=True, check_invariants=False)
