"""What a temperature does to images that it was not fitted on.

The images form two halves, 0 and 1; a half that is scored takes the temperature of the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from illama_eval.formulas.predictions import LARGEST_NLL
from illama_eval.formulas.reliability import Scored
from illama_eval.formulas.temperature import Fit, LossCurve, fit_temperature, rescale

TOO_MANY = "too many logits to keep: only sums over them are there"


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The temperatures, and what came of them."""

    fits: Mapping[int, Fit]
    """For each half that is scored, the fit on the other."""
    before: Scored
    """The images that are scored."""
    after: Scored | None = None
    """The same images, scaled; None where that is impossible."""
    nll: float = math.nan
    """Mean log loss after scaling."""
    problem: str = ""
    """Why there are no scaled images, or what is approximate about the loss."""

    @property
    def temperature(self) -> float:
        """Geometric mean of the temperatures."""
        logarithms = [math.log(fit.temperature) for fit in self.fits.values()]
        return math.exp(sum(logarithms) / len(logarithms))

    @property
    def fitted(self) -> int:
        """Images that the temperatures were fitted on."""
        return sum(fit.images for fit in self.fits.values())

    @property
    def notes(self) -> str:
        """Each temperature, where it was fitted, and what is wrong with it."""
        return ", ".join(
            f"T = {fit.temperature:.6g} on {fit.images} images{fit.note and f' ({fit.note})'}"
            for fit in self.fits.values()
        )


def scale_by_logits(
    seen: Scored, logits: Tensor, labels: Tensor, half: Tensor, fitted: Sequence[int]
) -> Scaling:
    """Return the scaling of images whose logits [image, class] are all there.

    Args:
        seen: the images.
        logits: their logits, float32.
        labels: their true classes, int64 [image].
        half: which half each is in, int64 [image].
        fitted: the halves to fit on; the other half of each is scored.
    """
    fits = {
        1 - side: fit_temperature(logits[half == side], labels[half == side]) for side in fitted
    }
    scored = torch.isin(half, torch.tensor(list(fits)))
    scaling = Scaling(fits=fits, before=seen.select(scored), problem=_find_problem(fits, scored))
    if scaling.problem:
        return scaling
    by_half = [fits[side].temperature if side in fits else math.nan for side in (0, 1)]
    temperatures = torch.tensor(by_half, dtype=torch.float64)[half[scored]]
    confidence, nll, brier = rescale(logits[scored], temperatures, labels[scored])
    after = replace(scaling.before, confidence=confidence, nll=nll, brier=brier)
    return replace(scaling, after=after, nll=float(nll.mean()))


def scale_by_curves(
    seen: Scored, losses: Tensor, counts: Tensor, half: Tensor, fitted: Sequence[int]
) -> Scaling:
    """Return the scaling where the logits were too many to keep: the log loss alone.

    Args:
        seen: the images.
        losses: `sum_losses` on GRID over each half, float64 [half, point, 3].
        counts: images in these sums, int64 [half].
        half: which half each image is in, int64 [image].
        fitted: the halves to fit on; the other half of each is scored.
    """
    curves = [
        LossCurve(sums=sums, images=int(count)) for sums, count in zip(losses, counts, strict=True)
    ]
    fits = {1 - side: curves[side].fit() for side in fitted}
    scored = torch.isin(half, torch.tensor(list(fits)))
    before = seen.select(scored)
    problem = _find_problem(fits, scored)
    if problem:
        return Scaling(fits=fits, before=before, problem=problem)
    without_loss = before.images - sum(curves[side].images for side in fits)
    total = sum(curves[side].loss_at(fit.temperature) for side, fit in fits.items())
    nll = (total + without_loss * LARGEST_NLL) / before.images
    return Scaling(fits=fits, before=before, nll=nll, problem=TOO_MANY)


def _find_problem(fits: Mapping[int, Fit], scored: Tensor) -> str:
    """Return why nothing can be scored, or nothing."""
    notes = [fit.note for fit in fits.values() if not fit.images]
    return notes[0] if notes else "" if scored.any() else "no image to score"
