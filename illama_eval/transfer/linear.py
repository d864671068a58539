"""Linear probe: C is chosen on held-out training images, then all of them are fitted.

The test images have no part in the choice. The held-out tenth is drawn class by class by the hash
of the image ids, so that it depends neither on the order of the images nor on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from illama.sources.source import hash_order
from illama_eval.transfer.logistic_regression import Fit, Problem, fit_path

HELD_OUT = 0.1
"""Share of each class's training images on which C is chosen; at least one of two or more."""
UNCHOSEN = 1.0
"""C where no class has a second image to hold out."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One C with its classifier, fitted without the held-out images, and its errors on them."""

    fit: Fit
    hits: Tensor
    """bool [held-out image]"""
    nll: float
    """Mean log loss, nats."""

    @property
    def inverse_penalty(self) -> float:
        """Its C."""
        return self.fit.inverse_penalty

    @property
    def top1(self) -> float:
        """Accuracy on the held-out images."""
        return float(self.hits.double().mean())


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """The classifier, and how its C was chosen."""

    fit: Fit
    candidates: tuple[Candidate, ...]
    """By ascending C; none where nothing could be held out."""
    held_out: tuple[str, ...]
    """Ids of the held-out images."""


def default_grid(values: int = 45) -> tuple[float, ...]:
    """Return `values` values of C from 1e-6 to 1e5, evenly spaced on a logarithmic scale."""
    return tuple(float(f"{c:.6g}") for c in np.logspace(-6, 5, values))


def fit_probe(
    features: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    classes: int,
    grid: Sequence[float],
    seed: int = 0,
) -> LinearProbe:
    """Return the probe of training images.

    Args:
        features: [image, channel], finite.
        labels: int64 [image], 0 to classes - 1, each at least once.
        ids: of the images; with the seed they decide which are held out.
        classes: how many there are.
        grid: values of C to choose from.
        seed: of the draw.
    """
    mask = hold_out(labels.cpu().numpy(), ids, seed)
    held = torch.from_numpy(mask).to(features.device)
    candidates: list[Candidate] = []
    if len(grid) > 1 and mask.any():
        fits = fit_path(features[~held], labels[~held], classes, sorted(set(grid)))
        candidates = [_try(fit, features[held], labels[held]) for fit in fits]
    problem = Problem(features, labels, classes)
    if candidates:
        best = max(candidates, key=lambda each: (each.top1, -each.nll, -each.inverse_penalty)).fit
        fit = problem.fit(best.inverse_penalty, best)
    else:
        fit = problem.fit(grid[0] if len(grid) == 1 else UNCHOSEN)
    return LinearProbe(
        fit=fit,
        candidates=tuple(candidates),
        held_out=tuple(ids[i] for i in np.flatnonzero(mask).tolist()) if candidates else (),
    )


def hold_out(
    labels: NDArray[np.int64], ids: Sequence[str], seed: int, share: float = HELD_OUT
) -> NDArray[np.bool_]:
    """Return which images are held out: of each class those of smallest hash.

    A class of one image keeps it; one of two or more holds out at least one.
    """
    order = hash_order(ids, seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        count = max(1, round(share * len(mine))) if len(mine) > 1 else 0
        held[mine[np.argsort(order[mine])[:count]]] = True
    return held


def _try(fit: Fit, features: Tensor, labels: Tensor) -> Candidate:
    logits = fit.logits(features)
    return Candidate(
        fit=fit,
        hits=(logits.argmax(1) == labels).cpu(),
        nll=float(functional.cross_entropy(logits, labels)),
    )
