"""How far apart patches are, and how far attention looks on average.

Distances are between the centres of patches, in patches; patches are in raster order on a square.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def distances(patches: int, device: torch.device | None = None) -> Tensor:
    """Return the distance of every two patches, float64 [patch, patch]; NaN without a square."""
    side = math.isqrt(patches)
    if side * side != patches:
        return torch.full((patches, patches), math.nan, dtype=torch.float64, device=device)
    places = torch.arange(patches, device=device)
    points = torch.stack((places // side, places % side), 1).to(torch.float64)
    apart: Tensor = (points[:, None] - points).norm(dim=-1)
    return apart


def mean_distance(weights: Tensor, apart: Tensor) -> Tensor:
    """Return the mean over queries of the mean distance to a key, of weights [..., query, key].

    Each row is divided by its own sum; rows without weight are left out. `apart` [query, key].
    """
    return ((weights * apart).sum(-1) / weights.sum(-1)).nanmean(-1)


def uniform_attention(open_: Tensor, factor: Tensor | None) -> Tensor:
    """Return what equal scores give under a mask, float64 [query, key], up to each row's scale.

    `factor` is the mask after the softmax; None where the mask is inside it.
    """
    return (open_ if factor is None else open_ * factor).to(torch.float64)
