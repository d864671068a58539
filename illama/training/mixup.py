"""Mixup and CutMix: the mixed images of a micro-batch, and their targets.

Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of every image with its mirror in the batch,
one draw for the whole batch: timm's mode `batch`, which the paper uses (Table 12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from illama.training.recipe import Recipe


@dataclass(frozen=True)
class Mixing:
    """One draw: the share of each image that is kept, and the rectangle that is replaced."""

    share: float = 1.0
    """Share of the image's own class in its target."""
    box: tuple[slice, slice] | None = None
    """Rows and columns that come from the other image; None: everything is blended."""

    def blend(self, images: Tensor) -> Tensor:
        """Return blended images [image, 3, row, column]."""
        if self.share == 1:
            return images
        if self.box is None:
            return images * self.share + images.flip(0) * (1 - self.share)
        blended = images.clone()
        blended[..., self.box[0], self.box[1]] = images.flip(0)[..., self.box[0], self.box[1]]
        return blended

    def targets(self, labels: Tensor, classes: int, smoothing: float) -> Tensor:
        """Return shares of classes [image, class] for labels [image]."""
        own = functional.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        return own * self.share + own.flip(0) * (1 - self.share)


def draw_mixing(recipe: Recipe, side: int, random: np.random.Generator) -> Mixing:
    """Draw how a micro-batch of square images is mixed."""
    if not recipe.mixes or random.random() >= recipe.mixup_prob:
        return Mixing()
    cuts = recipe.cutmix > 0
    if cuts and recipe.mixup > 0:
        cuts = random.random() < recipe.switch_prob
    alpha = recipe.cutmix if cuts else recipe.mixup
    share = float(random.beta(alpha, alpha))
    return cut(share, side, *random.integers(0, side, 2)) if cuts else Mixing(share)


def cut(share: float, side: int, row: int, column: int) -> Mixing:
    """Return CutMix's draw around a centre; the part outside the image is not replaced.

    `share` is what would be kept of the image if the whole rectangle were inside it.
    """
    length = int(side * math.sqrt(1 - share))
    rows, columns = (
        slice(max(0, int(centre) - length // 2), min(side, int(centre) + (length + 1) // 2))
        for centre in (row, column)
    )
    taken = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mixing(1 - taken / side**2, (rows, columns))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats to shares of classes [image, class]."""
    return -(targets * torch.log_softmax(logits, dim=-1)).sum(-1).mean()
