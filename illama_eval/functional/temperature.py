"""One number that divides all logits, fitted to the log loss (Guo et al. 2017, section 4.2).

The mean log loss is convex in the inverse temperature b = 1/T, with derivatives
    loss  = log sum_k exp(b z_k) - b z_y,
    slope = E[z] - z_y,
    curvature = Var[z],
expectations over softmax(b z). All in float64. Images whose true class has a logit of -inf have
the same infinite loss at every temperature and take no part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from illama.observation import to_float64
from illama_eval.functional.predictions import LARGEST_NLL, find_usable, predict
from illama_eval.functional.reliability import Scored

TOO_MANY = "too many logits to keep: only sums over them are there"

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures between which is searched."""

STEPS = 60
"""Newton steps at most; about six are usual."""

PRECISION = 1e-12
"""Relative change of 1/T at which the search ends."""

BISECTIONS = 30
"""Halvings of the space between two points of GRID."""

CHUNK = 2**21
"""Logits that are in work at a time: bounds the memory."""

LOWEST_SCORE = -1e30
"""In place of -inf, where zero times infinity would be NaN."""

GRID = torch.logspace(0, 1, 25, base=HIGHEST / LOWEST, dtype=torch.float64) / HIGHEST
"""Inverse temperatures at which sums are kept where there are too many logits to keep."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted temperature, and how the search ended."""

    temperature: float
    images: int
    """Images that it was fitted on."""
    note: str = ""
    """What is wrong with it; empty when the search converged inside the bounds."""


NO_FIT = Fit(temperature=math.nan, images=0, note="no image to fit on")
"""What a fit on no image is."""


def sum_losses(
    logits: Tensor, labels: Tensor, inverse: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return loss, slope, curvature, summed over the images, at each inverse temperature.

    Args:
        logits: [image, class].
        labels: int64 [image].
        inverse: values of 1/T, float64 [point].
        weights: of the images in each replicate, [replicate, image]; None: all count once.

    Returns:
        float64 [point, 3], with weights [replicate, point, 3].
    """
    if weights is None:
        return sum_losses(logits, labels, inverse, logits.new_ones((1, len(logits))))[0]
    total = logits.new_zeros((len(weights), len(inverse), 3), dtype=torch.float64)
    rows = max(1, CHUNK // logits.shape[1])
    for start in range(0, len(logits), rows):
        part = slice(start, start + rows)
        scores, true, used = _fit_scores(logits[part], labels[part].to(logits.device))
        weight = weights[:, part][:, used].to(torch.float64)
        for point, value in enumerate(inverse.tolist()):
            total[:, point] += weight @ _loss_and_derivatives(scores, true, value)
    return total


def fit_temperature(logits: Tensor, labels: Tensor) -> Fit:
    """Return the temperature that minimises the log loss of logits [image, class]."""
    images = count_fitted(logits, labels)
    if not images:
        return NO_FIT

    def look(inverse: float) -> tuple[float, float]:
        sums = sum_losses(logits, labels, torch.tensor([inverse], dtype=torch.float64))
        return float(sums[0, 1]) / images, float(sums[0, 2]) / images

    found = _find_end(look(1 / HIGHEST)[0], look(1 / LOWEST)[0], images)
    if found is not None:
        return found
    low, high, inverse = 1 / HIGHEST, 1 / LOWEST, 1.0
    for _ in range(STEPS):
        slope, curvature = look(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        target = inverse - slope / curvature if curvature > 0 else low
        if abs(target - inverse) <= PRECISION * inverse:
            return Fit(temperature=1 / inverse, images=images)
        inverse = target if low < target < high else (low * high) ** 0.5
    return Fit(temperature=1 / inverse, images=images, note=f"not converged in {STEPS} steps")


def count_fitted(logits: Tensor, labels: Tensor) -> int:
    """Return how many images take part in a fit."""
    true = logits.gather(1, labels.to(logits.device)[:, None])[:, 0]
    return int((find_usable(logits) & true.isfinite()).sum())


def rescale(logits: Tensor, temperatures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return confidence, log loss and Brier score after division by each image's temperature.

    Takes logits [image, class], temperatures float64 [image] and labels int64 [image]; returns
    three float64 [image].
    """
    rows = max(1, CHUNK // logits.shape[1])
    parts = [
        predict(to_float64(part) / by[:, None], truth)
        for part, by, truth in zip(
            torch.split(logits, rows),
            torch.split(temperatures, rows),
            torch.split(labels, rows),
            strict=True,
        )
    ]
    return (
        torch.cat([part.confidence for part in parts]),
        torch.cat([part.nll for part in parts]),
        torch.cat([part.brier for part in parts]),
    )


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """The log loss between the points of GRID, by quintic Hermite interpolation.

    On real predictions of two networks the temperature is within 2e-5 of the exact one, relatively,
    and the loss within 1e-6.
    """

    sums: Tensor
    """What `sum_losses` gives on GRID, float64 [point, 3]."""
    images: int

    def fit(self) -> Fit:
        """Return the temperature at the minimum."""
        if not self.images:
            return NO_FIT
        slopes = self.sums[:, 1]
        found = _find_end(float(slopes[0]), float(slopes[-1]), self.images)
        if found is not None:
            return found
        place = int((slopes < 0).sum()) - 1
        polynomial = self._polynomial(place)
        low, high = 0.0, 1.0
        while high - low > PRECISION:
            middle = (low + high) / 2
            slope = sum(k * c * middle ** (k - 1) for k, c in enumerate(polynomial) if k)
            low, high = (middle, high) if slope < 0 else (low, middle)
        inverse = float(GRID[place] + low * (GRID[place + 1] - GRID[place]))
        return Fit(temperature=1 / inverse, images=self.images)

    def loss_at(self, temperature: float) -> float:
        """Return the summed loss at a temperature within the bounds."""
        inverse = 1 / temperature
        place = min(max(int((inverse >= GRID).sum()) - 1, 0), len(GRID) - 2)
        part = (inverse - float(GRID[place])) / float(GRID[place + 1] - GRID[place])
        return sum(c * part**k for k, c in enumerate(self._polynomial(place)))

    def _polynomial(self, place: int) -> tuple[float, ...]:
        """Return the coefficients, in [0, 1], of the piece after grid point `place`."""
        width = float(GRID[place + 1] - GRID[place])
        loss, slope, curvature = self.sums[place].tolist()
        end_loss, end_slope, end_curvature = self.sums[place + 1].tolist()
        first, second = width * slope, width**2 * curvature / 2
        rest = end_loss - loss - first - second
        rest_slope = width * end_slope - first - 2 * second
        rest_curvature = width**2 * end_curvature - 2 * second
        return (
            loss,
            first,
            second,
            10 * rest - 4 * rest_slope + rest_curvature / 2,
            -15 * rest + 7 * rest_slope - rest_curvature,
            6 * rest - 3 * rest_slope + rest_curvature / 2,
        )


def _find_end(slope_at_highest: float, slope_at_lowest: float, images: int) -> Fit | None:
    """Return the fit if the minimum is not strictly between the bounds."""
    if slope_at_highest == slope_at_lowest == 0:
        return Fit(temperature=1.0, images=images, note="the loss is the same at every temperature")
    if slope_at_highest >= 0:
        return Fit(temperature=HIGHEST, images=images, note=f"stopped at the bound {HIGHEST:g}")
    if slope_at_lowest <= 0:
        return Fit(temperature=LOWEST, images=images, note=f"stopped at the bound {LOWEST:g}")
    return None


def _fit_scores(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits less their maximum, and the true class's, of the images that take part.

    Last comes which images do, bool [image].
    """
    scores = to_float64(logits)
    scores = scores - scores.amax(-1, keepdim=True)
    true = scores.gather(1, labels[:, None])[:, 0]
    part = find_usable(logits) & true.isfinite()
    return scores[part].clamp(min=LOWEST_SCORE), true[part], part


def _loss_and_derivatives(scores: Tensor, true: Tensor, inverse: float) -> Tensor:
    """Return loss, slope, curvature of each image, float64 [image, 3]."""
    exponentials = (scores * inverse).exp()
    total = exponentials.sum(-1, keepdim=True)
    probabilities = exponentials / total
    mean = (probabilities * scores).sum(-1)
    square = (probabilities * scores.square()).sum(-1)
    loss = total[:, 0].log() - inverse * true
    return torch.stack((loss, mean - true, square - mean.square()), dim=1)


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
    replicates: Tensor | None = None
    """The temperature, then refitted with each replicate's weights, [201]; None without logits."""

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
    parts = [half == side for side in fitted]
    refits = [refit(logits[part], labels[part], seen.weights[:, part]) for part in parts]
    replicates = scaling.temperature * torch.stack(refits).mean(0).exp()
    return replace(scaling, after=after, nll=float(nll.mean()), replicates=replicates)


def refit(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the log of each replicate's temperature less that of the first one, [replicate].

    Between the points of GRID the slope of the loss is a cubic Hermite curve.
    """
    slopes, curvatures = sum_losses(logits, labels, GRID, weights)[..., 1:].unbind(-1)
    place = ((slopes < 0).sum(1) - 1).clamp(0, len(GRID) - 2)[:, None]
    width = (GRID[place + 1] - GRID[place])[:, 0]
    ends = [side.gather(1, place + step)[:, 0] for side in (slopes, curvatures) for step in (0, 1)]
    start, end, rise, end_rise = ends[0], ends[1], width * ends[2], width * ends[3]
    low, high = torch.zeros_like(start), torch.ones_like(start)
    for _ in range(BISECTIONS):
        x = (low + high) / 2
        bend = (1 - x) * (rise - end + start) + x * (end - start - end_rise)
        below = start + x * (end - start) + x * (1 - x) * bend < 0
        low, high = torch.where(below, x, low), torch.where(below, high, x)
    found = -(GRID[place[:, 0]] + low * width).log()
    return found - found[0]


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
