"""Attention rollout: how much of each input token reaches each token through a stack of blocks."""

from __future__ import annotations

import torch
from torch import Tensor


def extend_rollout(rollout: Tensor | None, used: Tensor) -> Tensor:
    """Return the rollout after one block more, [image, query, input token]; None is the identity.

    With A the mean of the maps `used` [image, head, query, key] over the heads, each row of A
    divided by its own sum, the rollout R becomes (A + I) / 2 @ R (Abnar & Zuidema 2020, section 3).
    Rows of `used` need not sum to one; a row of zeros passes its own token on alone. The rows of
    the result sum to one.
    """
    mean = used.to(torch.promote_types(used.dtype, torch.float32)).mean(1)
    own = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    mass = mean.sum(-1, keepdim=True)
    step = torch.where(mass == 0, own, (mean / mass + own) / 2)
    return step if rollout is None else step @ rollout
