"""Segmentation metrics: pixel counts by class, intersection over union, accuracies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

IGNORED = 255
"""Label of pixels that are not evaluated."""


def count_areas(predicted: Sequence[Tensor], masks: Sequence[Tensor], classes: int) -> Tensor:
    """Return pixels by class, int64 [image, (intersection, prediction, label), class].

    Both contain the class of each pixel, [row, column] per image.
    """
    counted = []
    for guess, truth in zip(predicted, masks, strict=True):
        kept = truth != IGNORED
        parts = ((truth, kept & (guess == truth)), (guess, kept), (truth, kept))
        counted.append(torch.stack([_count(each, among, classes) for each, among in parts]))
    return torch.stack(counted)


def _count(pixels: Tensor, among: Tensor, classes: int) -> Tensor:
    """Return pixels by class, int64 [class], among some; a GPU is not waited for."""
    place = pixels.long().where(among, classes).flatten()
    counts = torch.zeros(classes + 1, dtype=torch.int64, device=pixels.device)
    return counts.scatter_add_(0, place, torch.ones_like(place))[:classes]


def intersection_over_union(areas: Tensor) -> Tensor:
    """Return IoU by class, [..., class], of areas [..., 3, class]; NaN where there is no union."""
    intersection, predicted, label = areas.unbind(-2)
    union = predicted + label - intersection
    return torch.where(union > 0, intersection / union, torch.nan)


def class_accuracy(areas: Tensor) -> Tensor:
    """Return the share of each class's pixels that were found, [..., class]; NaN without any."""
    intersection, _, label = areas.unbind(-2)
    return torch.where(label > 0, intersection / label, torch.nan)


def pixel_accuracy(areas: Tensor) -> Tensor:
    """Return the share of all pixels whose class was found, [...]; NaN without any."""
    intersection, _, label = areas.unbind(-2)
    whole = label.sum(-1)
    return torch.where(whole > 0, intersection.sum(-1) / whole, torch.nan)
