"""Multinomial logistic regression with an L2 penalty, by L-BFGS in the axes of the features.

The objective is scikit-learn's, divided by C and the images: mean of -log p(true class) plus
|W|^2 / (2 C images), the intercept without penalty. Rotating centred features into their principal
axes changes neither, and there the Hessian is nearly diagonal: L-BFGS, started from that diagonal,
needs a fraction of the steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-7
"""Expected decrease of the objective, in nats, below which a fit has converged."""
MOST_STEPS = 1000
MEMORY = 12
"""Pairs of steps and gradient changes that L-BFGS remembers."""
_AT_A_TIME = 2**18
"""Numbers in a block of images, at most."""
_SUFFICIENT = 1e-4
"""Share of the decrease predicted by the slope that a step must reach (Armijo)."""
_SMALLEST_STEP = 1e-10
_CURVED = 1e-12
"""Least curvature along a step, relative to the norms, with which the pair is kept."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted classifier: logits = features @ weight + intercept."""

    weight: Tensor
    """float64 [channel, class]"""
    intercept: Tensor
    """float64 [class]"""
    inverse_penalty: float
    """C: the larger, the weaker the penalty."""
    objective: float
    """mean of -log p(true class) + |weight|^2 / (2 C images)"""
    steps: int
    converged: bool

    def logits(self, features: Tensor) -> Tensor:
        """Return float64 logits [image, class] of features [image, channel]."""
        return features.to(self.weight) @ self.weight + self.intercept


class Problem:
    """Images to be classified: their features, centred and rotated, and their classes.

    Args:
        features: [image, channel], finite.
        labels: int64 [image], 0 to classes - 1, each at least once.
        classes: how many there are.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int) -> None:
        exact = features.double()
        self.images, self.channels = exact.shape
        self.labels, self.classes = labels, classes
        self.mean = exact.mean(0)
        centred = exact - self.mean
        self.axes = torch.linalg.eigh(centred.T @ centred)[1]
        ones = exact.new_ones(self.images, 1)
        self.rotated = torch.cat((centred @ self.axes, ones), dim=1)

    def blocks(self) -> Iterator[slice]:
        """Yield the images in blocks that fit the cache."""
        size = max(1, _AT_A_TIME // (self.channels + self.classes))
        for start in range(0, self.images, size):
            yield slice(start, start + size)

    def loss_and_gradient(self, point: Tensor, penalty: float) -> tuple[float, Tensor]:
        """Return the objective and its gradient at a point [class, channel + 1].

        Classes come first here: products with as few columns as there are classes are slow.
        """
        loss = point.new_zeros(())
        gradient = torch.zeros_like(point)
        for rows in self.blocks():
            features, labels = self.rotated[rows], self.labels[None, rows]
            logits = point @ features.T
            largest = logits.logsumexp(0, keepdim=True)
            loss += (largest - logits.gather(0, labels)).sum()
            excess = logits.sub_(largest).exp_()
            excess.scatter_add_(0, labels, excess.new_full(labels.shape, -1.0))
            gradient += excess @ features
        gradient /= self.images
        weight = point[:, :-1]
        gradient[:, :-1] += penalty * weight
        value = loss / self.images + penalty / 2 * weight.square().sum()
        return float(value), gradient

    def curvature(self, point: Tensor, penalty: float) -> Tensor:
        """Return the diagonal of the Hessian at a point, [class, channel + 1]."""
        diagonal = torch.zeros_like(point)
        for rows in self.blocks():
            features = self.rotated[rows]
            shares = (point @ features.T).softmax(0)
            diagonal += (shares * (1 - shares)) @ features.square()
        diagonal /= self.images
        diagonal[:, :-1] += penalty
        return diagonal.clamp_min(1e-12 * float(diagonal.max()))

    def fit(self, inverse_penalty: float, start: Fit | None = None) -> Fit:
        """Return the classifier of one C, started from a similar one if given."""
        penalty = 1 / (inverse_penalty * self.images)
        point = self._to_point(start)
        found = minimise(
            lambda at: self.loss_and_gradient(at, penalty), point, self.curvature(point, penalty)
        )
        weight = self.axes @ found.point[:, :-1].T
        return Fit(
            weight=weight,
            intercept=found.point[:, -1] - self.mean @ weight,
            inverse_penalty=inverse_penalty,
            objective=found.value,
            steps=found.steps,
            converged=found.converged,
        )

    def _to_point(self, fit: Fit | None) -> Tensor:
        """Return a classifier as a point in the rotated features, [class, channel + 1]."""
        if fit is None:
            return self.rotated.new_zeros(self.classes, self.channels + 1)
        intercept = fit.intercept + self.mean @ fit.weight
        return torch.cat((fit.weight.T @ self.axes, intercept[:, None]), dim=1)


def fit_path(
    features: Tensor, labels: Tensor, classes: int, inverse_penalties: Sequence[float]
) -> list[Fit]:
    """Return a classifier for each C, each fit started from the one of the next smaller C."""
    problem = Problem(features, labels, classes)
    fits: dict[float, Fit] = {}
    last: Fit | None = None
    for value in sorted(set(inverse_penalties)):
        last = fits[value] = problem.fit(value, last)
    return [fits[value] for value in inverse_penalties]


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The end of a descent."""

    point: Tensor
    value: float
    steps: int
    converged: bool


def minimise(
    objective: Callable[[Tensor], tuple[float, Tensor]], start: Tensor, curvature: Tensor
) -> Minimum:
    """Descend a smooth convex function by L-BFGS (Liu and Nocedal 1989).

    Args:
        objective: from a point to value and gradient.
        start: the first point.
        curvature: positive, the diagonal of the Hessian or an estimate of it.
    """
    point = start
    value, gradient = objective(point)
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
    for step in range(MOST_STEPS):
        direction = _direction(gradient, curvature, pairs)
        slope = float((direction * gradient).sum())
        if -slope / 2 <= TOLERANCE:
            return Minimum(point=point, value=value, steps=step, converged=True)
        taken = _search(objective, point, value, direction, slope)
        if taken is None:
            return Minimum(point=point, value=value, steps=step, converged=False)
        moved, lower, after = taken
        change, turned = moved - point, after - gradient
        bend = float((change * turned).sum())
        if bend > _CURVED * float(change.norm() * turned.norm()):
            pairs.append((change, turned, bend))
        point, value, gradient = moved, lower, after
    return Minimum(point=point, value=value, steps=MOST_STEPS, converged=False)


def _direction(
    gradient: Tensor, curvature: Tensor, pairs: Sequence[tuple[Tensor, Tensor, float]]
) -> Tensor:
    """Return minus the inverse Hessian, as the pairs have it, times the gradient."""
    rest = gradient.clone()
    shares = []
    for change, turned, bend in reversed(pairs):
        share = (change * rest).sum() / bend
        rest -= share * turned
        shares.append(share)
    rest /= curvature
    if pairs:
        _, turned, bend = pairs[-1]
        rest *= bend / (turned.square() / curvature).sum()
    for (change, turned, bend), share in zip(pairs, reversed(shares), strict=True):
        rest += (share - (turned * rest).sum() / bend) * change
    return -rest


def _search(
    objective: Callable[[Tensor], tuple[float, Tensor]],
    point: Tensor,
    value: float,
    direction: Tensor,
    slope: float,
) -> tuple[Tensor, float, Tensor] | None:
    """Return the first point along a direction that is low enough; None if rounding leaves none."""
    length = 1.0
    while length > _SMALLEST_STEP:
        moved = point + length * direction
        lower, gradient = objective(moved)
        if lower <= value + _SUFFICIENT * length * slope:
            return moved, lower, gradient
        bowl = 2 * (lower - value - length * slope)
        best = -slope * length**2 / bowl if bowl > 0 else 0.0
        length = min(max(best, 0.1 * length), 0.5 * length)
    return None
