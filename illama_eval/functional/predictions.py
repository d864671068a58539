"""What logits say about each image: the class they choose, how surely, and how wrongly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from illama.observation import OutputSeen, batch_of, present, to_float64

SMALLEST_PROBABILITY = 1e-12
"""Probability below which the log loss stops growing."""

LEAST_WRONG = 2
"""Wrong answers from which the interval of a loss covers: most of a loss is in few of them."""

FEW_WRONG = f"with fewer than {LEAST_WRONG} wrong answers it would not cover"
"""Why the interval of a loss is withheld."""

LARGEST_NLL = -math.log(SMALLEST_PROBABILITY)
"""Log loss of a class that was given no probability, in nats."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What was predicted, image by image; images without usable logits are wrong in all of it."""

    usable: Tensor
    """Whether the logits define a distribution, bool [image]."""
    prediction: Tensor
    """The class of the largest logit, the lowest index among equals, int64 [image]; -1 if none."""
    rank: Tensor
    """Classes placed before the true one, lower indices first among equals, int64 [image]."""
    probabilities: Tensor
    """Softmax, float64 [image, class]; uniform if there is none."""
    confidence: Tensor
    """Probability of the prediction, float64 [image]; 0 if none."""
    nll: Tensor
    """-log of the true class's probability, in nats, at most 27.6, float64 [image]."""
    brier: Tensor
    """Squared distance of the probabilities from the one-hot label, 0 to 2, float64 [image]."""


def predict(logits: Tensor, labels: Tensor) -> Predictions:
    """Return what logits [image, class] say, given the true classes int64 [image].

    The softmax is in float64. A logit of -inf is a probability of zero; a row with NaN or +inf, or
    with nothing but -inf, is not usable.
    """
    usable = find_usable(logits)
    truth = labels.to(logits.device)[:, None]
    scores = to_float64(logits).masked_fill(~usable[:, None], 0.0)
    scores = scores - scores.amax(-1, keepdim=True)
    true = scores.gather(1, truth)
    exponentials = scores.exp()
    total = exponentials.sum(-1, keepdim=True)
    probabilities = exponentials / total
    target = torch.zeros_like(probabilities).scatter_(1, truth, 1.0)
    nll = (total.log() - true)[:, 0]
    return Predictions(
        usable=usable,
        prediction=scores.argmax(-1).masked_fill(~usable, -1),
        rank=_rank(scores, truth, true).masked_fill(~usable, logits.shape[1]),
        probabilities=probabilities,
        confidence=probabilities.amax(-1).masked_fill(~usable, 0.0),
        nll=nll.clamp(max=LARGEST_NLL).masked_fill(~usable, LARGEST_NLL),
        brier=(probabilities - target).square().sum(-1).masked_fill(~usable, 2.0),
    )


def find_usable(logits: Tensor) -> Tensor:
    """Return which rows of logits [image, class] define a distribution, bool [image]."""
    return logits.amax(-1).isfinite()


def logits_and_labels(piece: OutputSeen) -> tuple[Tensor, Tensor]:
    """Return logits [image, class] and true classes [image] of a piece.

    Of several true classes of an image it is the one with the largest logit: an answer is right if
    it is any of them (ReaL accuracy; Beyer et al., arXiv 2006.07159).

    Raises:
        ValueError: the logits were not wanted, or the source has no labels.
    """
    batch, logits = batch_of(piece), present(piece.logits, "logits")
    if batch.labels is None:
        raise ValueError("source: has no labels, which this study needs; give --labels")
    if batch.further_labels is None:
        return logits, batch.labels
    first, further = batch.labels[:, None], batch.further_labels
    return logits, _likeliest(logits, torch.cat((first, further.where(further >= 0, first)), 1))


def _likeliest(logits: Tensor, classes: Tensor) -> Tensor:
    """Return of each image's classes [image, most] that of the largest logit, int64 [image].

    Among equals it is the lowest index, as in the order that ranks the classes.
    """
    classes = classes.sort(1).values
    best = to_float64(logits).gather(1, classes).argmax(1, keepdim=True)
    return classes.gather(1, best)[:, 0]


def _rank(scores: Tensor, truth: Tensor, true: Tensor) -> Tensor:
    """Return how many classes come before the true one when equals are ordered by index."""
    earlier = torch.arange(scores.shape[1], device=scores.device) < truth
    return ((scores > true) | ((scores == true) & earlier)).sum(-1)


def kl_divergence(first: Tensor, logits: Tensor) -> Tensor:
    """Return KL(softmax first || softmax logits) of each image in nats, float64 [image].

    Both are float64 logits [image, class].
    """
    log_first, log_second = first.log_softmax(-1), logits.log_softmax(-1)
    return (log_first.exp() * (log_first - log_second)).sum(-1)
