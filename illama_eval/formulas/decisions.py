"""What decisions between categories say: by shape or by texture, and how alike two deciders are."""

from __future__ import annotations

import torch
from torch import Tensor

NO_DECISION = -1


def decide(probabilities: Tensor, groups: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return the group of classes with the largest mean probability, int64 [image].

    `probabilities` is [image, class]; among equal means the first group wins.
    """
    means = [probabilities[:, list(indices)].mean(-1) for indices in groups]
    return torch.stack(means, dim=-1).argmax(-1)


def by_category(values: Tensor, category: Tensor, categories: int) -> Tensor:
    """Return values [image] spread over columns by category, float64 [image, category]."""
    chosen = torch.nn.functional.one_hot(category, categories)
    return chosen * values.to(torch.float64)[:, None]


def share(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, NaN where the whole is zero."""
    return torch.where(whole > 0, part / whole, torch.nan)


def error_consistency(images: Tensor, first: Tensor, second: Tensor, same: Tensor) -> Tensor:
    """Return Cohen's kappa of two deciders' errors (Geirhos et al. 2020).

    kappa = (o - e) / (1 - e), where o is the share of images on which both are right or both are
    wrong, and e = p q + (1 - p)(1 - q) what accuracies p and q alone would give.

    Args:
        images: how many, [...].
        first: on how many the first decider is right, [...].
        second: on how many the second is right, [...].
        same: on how many both are right or both are wrong, [...].
    """
    p, q, observed = share(first, images), share(second, images), share(same, images)
    expected = p * q + (1 - p) * (1 - q)
    return share(observed - expected, 1 - expected)
