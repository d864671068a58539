"""Confidence against accuracy: bins, the errors over them, and the risk of trusting confidence.

A formula acts on all replicates in one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama_eval.bootstrap import weights_of
from illama_eval.functional.predictions import Predictions
from illama_eval.statistics import Z95, upper_tail

RULES = ("right", "left", "mass")
"""Equally wide bins (lo, hi], equally wide bins [lo, hi), bins of equally many images."""

ROUNDING = 1e-12
"""Distance from an edge that is rounding: the last bit of a softmax decides no bin."""

PSEUDO_IMAGES = 2
"""Images that draw a bin's accuracy towards its confidence before its noise is computed."""

TINY = 1e-12

LARGEST_POWER = 20
"""Power of two that bounds how many times the gaps seen any true ones can be."""

CHUNK = 4096
"""Images whose weights are spread over bins at a time: bounds the memory."""

WEIGHTS = 2**18
"""Weights that are sorted by confidence at a time: bounds the memory."""

SECTIONS, ROUNDS = 16, 11
"""A search divides its space into so many sections, so many times."""


def bin_by_width(confidence: Tensor, bins: int, *, closed: str = "right") -> Tensor:
    """Return the bin, int64 from 0, of each value in [0, 1] among equally wide bins.

    Bins are (lo, hi] for `closed="right"`, the lowest one closed at 0 too (Guo et al. 2017), and
    [lo, hi) for `closed="left"`, the highest one closed at 1 too. A value within ROUNDING of an
    edge is on it.
    """
    edges = torch.arange(bins + 1, dtype=torch.float64, device=confidence.device) / bins
    nearest = (confidence * bins).round() / bins
    values = torch.where((confidence - nearest).abs() <= ROUNDING, nearest, confidence)
    return torch.bucketize(values, edges[1:-1], right=closed == "left")


def bin_by_rank(confidence: Tensor, bins: int) -> Tensor:
    """Return the bin, int64 from 0, of each value among bins of equally many images.

    Where the images do not divide, the lowest bins hold one more. Equal values share a bin, that
    of the middle one among them: neither the images' order nor their ids decide.
    """
    _, group, members = torch.unique(confidence, return_inverse=True, return_counts=True)
    middle = members.cumsum(0) - 1 - members // 2
    size, larger = divmod(len(confidence), bins)
    sizes = torch.full((bins,), size).index_fill(0, torch.arange(larger), size + 1)
    return torch.arange(bins).repeat_interleave(sizes)[middle[group]]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Weighted sums over the images of each bin, float64 [..., bin]."""

    images: Tensor
    confidence: Tensor
    correct: Tensor
    variance: Tensor
    """Sum of c (1 - c), the variance of `correct` if confidence were right."""

    @property
    def total(self) -> Tensor:
        """Images in all bins, [...]."""
        return self.images.sum(-1)

    @property
    def gaps(self) -> Tensor:
        """Distance of mean confidence and accuracy in each bin, [..., bin]; 0 where empty."""
        gap = (self.confidence - self.correct).abs() / self.images
        return gap.masked_fill(self.images == 0, 0.0)

    @property
    def shares(self) -> Tensor:
        """Share of the images in each bin, [..., bin]."""
        return self.images / self.total[..., None]

    def error(self) -> Tensor:
        """Return the expected calibration error, [...] (Naeini et al. 2015)."""
        return (self.confidence - self.correct).abs().sum(-1) / self.total

    def root_mean_square(self) -> Tensor:
        """Return the root of the mean squared gap, [...] (Hendrycks et al. 2019)."""
        return (self.shares * self.gaps.square()).sum(-1).sqrt()

    def debiased_root_mean_square(self) -> Tensor:
        """Return it less what the noise of each bin's accuracy adds, [...]; 0 if noise is all.

        A bin of one image tells nothing of its noise and is left as it is (Kumar et al. 2019).
        """
        accuracy = self.correct / self.images
        noise = accuracy * (1 - accuracy) / (self.images - 1)
        noise = noise.masked_fill(self.images <= 1, 0.0)
        square = (self.shares * (self.gaps.square() - noise)).sum(-1)
        return square.clamp(min=0.0).sqrt()

    def floor(self) -> Tensor:
        """Return the error that a perfectly calibrated model would show on average, [...].

        In each bin the error of a calibrated model is about normal, and E|x| = sqrt(2/pi) sd.
        """
        return math.sqrt(2 / math.pi) * self.variance.sqrt().sum(-1) / self.total

    def floor_deviation(self) -> Tensor:
        """Return the standard deviation of that model's error, [...]: Var|x| = (1 - 2/pi) sd^2."""
        return ((1 - 2 / math.pi) * self.variance.sum(-1)).sqrt() / self.total

    def error_interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the expected calibration error, by inverting its test.

        The gaps seen, all scaled by one factor, stand for any true error; those are kept under
        which an error like the one seen is not among the 5 % least likely. The error of a bin is
        about normal, so its absolute value is folded: its mean and variance are known, and the
        upward bias near calibration is part of the test, not of the interval. The noise of a bin
        is that under the error tested, not under the one seen, as in the score test of a
        proportion (Wilson 1927): the interval begins at 0 where a calibrated model may well show
        such an error.
        """
        share, total = self.shares[0].numpy(), float(self.total[0])
        gap = np.abs(self.confidence[0].numpy() - self.correct[0].numpy()) / total
        seen = float(gap.sum())

        def excess(side: float, factors: NDArray[np.float64]) -> NDArray[np.float64]:
            noise = self._noise_under(factors[:, None])
            mean, deviation = _error_under(factors[:, None] * gap, noise, share, total)
            return mean + side * Z95 * deviation - seen

        low, high = (seen * _root(partial(excess, side)) for side in (1.0, -1.0))
        return min(low, seen), min(1.0, max(high, seen))

    def _noise_under(self, factors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the deviation of each bin's error if all gaps are the seen ones scaled.

        Takes factors [factor, 1] and returns [factor, bin]. Beyond the gaps seen it stays that at
        them: an accuracy cannot pass 0 or 1.
        """
        images = self.images[0].numpy()
        sure, right = (
            each[0].numpy() / np.maximum(images, 1) for each in (self.confidence, self.correct)
        )
        drawn = np.minimum(factors, 1.0) * images / (images + PSEUDO_IMAGES)
        true = sure + drawn * (right - sure)
        return np.asarray(np.sqrt(images * true * (1 - true)) / images.sum())

    def calibrated_p(self) -> float:
        """Return the one-sided p of a perfectly calibrated model with these confidences.

        The share of such models whose error would be at least as large, from the normal
        distribution with the floor's mean and deviation. Where no confidence leaves any doubt,
        1 without an error and 0 with one.
        """
        error, floor = float(self.error()[0]), float(self.floor()[0])
        deviation = float(self.floor_deviation()[0])
        if not deviation:
            return float(error <= floor)
        return upper_tail((error - floor) / deviation)


def sum_class_bins(seen: Predictions, labels: Tensor, bins: int) -> Tensor:
    """Return images, their probability and truth by class and bin of probability, [3, class, bin].

    An image is in one bin of every class. The sums go through the images in their order, where a
    count with weights would add them on a GPU in whatever order its threads arrive.
    """
    probabilities = seen.probabilities
    column = torch.arange(probabilities.shape[1], device=probabilities.device)
    truth = labels.to(probabilities.device)[:, None] == column
    place = bin_by_width(probabilities, bins).where(seen.usable[:, None], -1)
    inside = [place == number for number in range(bins)]
    sums = [
        torch.stack((own.sum(0), probabilities.where(own, 0.0).sum(0), (own & truth).sum(0)))
        for own in inside
    ]
    return torch.stack(sums, -1)


def join_classes(sums: Tensor) -> Bins:
    """Return the bins of all classes as those of one measurement, [1, class x bin].

    Its error is the class-wise one: every class counts all images. Takes images, probability and
    truth, [3, class, bin], as `sum_class_bins` returns them.
    """
    images, confidence, correct = sums.flatten(1)[:, None]
    unknown = torch.full_like(images, math.nan)
    return Bins(images=images, confidence=confidence, correct=correct, variance=unknown)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Images with a confidence, one value each."""

    keys: Tensor
    """64-bit hashes, int64 [image]."""
    weights: Tensor
    """Replicate weights, [1 + replicates, image]."""
    confidence: Tensor
    """Probability of the prediction, float64 [image]."""
    correct: Tensor
    """1 where the prediction is true, else 0, float64 [image]."""
    nll: Tensor
    """Log loss in nats, float64 [image]."""
    brier: Tensor
    """Squared distance from the one-hot label, float64 [image]."""

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.keys)

    def select(self, chosen: Tensor) -> Scored:
        """Return the images where `chosen`, bool [image], is true."""
        taken = {name: value[..., chosen] for name, value in vars(self).items()}
        return Scored(**taken)

    def tabulate(self, bins: int) -> Table:
        """Return the images summed over `bins` bins under each of RULES."""
        places = (
            bin_by_width(self.confidence, bins),
            bin_by_width(self.confidence, bins, closed="left"),
            bin_by_rank(self.confidence, bins),
        )
        variance = self.confidence * (1 - self.confidence)
        columns = (self.confidence, self.correct, variance, self.nll, self.brier)
        values = torch.stack((torch.ones_like(variance), *columns), dim=1)
        sums = sum_by_bin(self.weights, torch.stack(places, dim=1), values, bins)
        images, confidence, correct, variance, nll, brier = sums.unbind(-1)
        total = images[:, 0].sum(-1)
        return Table(
            rules={
                rule: Bins(
                    images=images[:, i],
                    confidence=confidence[:, i],
                    correct=correct[:, i],
                    variance=variance[:, i],
                )
                for i, rule in enumerate(RULES)
            },
            confidence=confidence[:, 0].sum(-1) / total,
            accuracy=correct[:, 0].sum(-1) / total,
            nll=nll[:, 0].sum(-1) / total,
            brier=brier[:, 0].sum(-1) / total,
        )

    def area_under_risk(self) -> Tensor:
        """Return the mean error rate over the k surest images, k = 1 to all, [replicate].

        Images of equal confidence count as if in random order: the value is the exact expectation.
        A weight repeats its image (Geifman et al. 2019).
        """
        _, group = torch.unique(-self.confidence, return_inverse=True)
        largest = int(self.weights.sum(1).max())
        harmonic = torch.zeros(largest + 1, dtype=torch.float64)
        harmonic[1:] = (1 / torch.arange(1, largest + 1, dtype=torch.float64)).cumsum(0)
        parts = torch.split(self.weights, max(1, WEIGHTS // self.images))
        wrong = 1 - self.correct
        return torch.cat([_areas(part.double(), wrong, group, harmonic) for part in parts])


@dataclass(frozen=True, kw_only=True)
class Table:
    """Sums and means over scored images, with a leading replicate axis."""

    rules: Mapping[str, Bins]
    """The bins [replicate, bin] under each of RULES."""
    confidence: Tensor
    accuracy: Tensor
    nll: Tensor
    brier: Tensor


def replicate_weights(keys: Tensor) -> Tensor:
    """Return the images' replicate weights, uint8 [1 + 200, image]: an eighth of their memory.

    `keys` are hashes of the images, or of their groups, int64 [image, way of grouping].
    """
    parts = [weights_of(part).to(torch.uint8) for part in torch.split(keys, CHUNK)]
    return torch.cat(parts, dim=1)


def sum_by_bin(weights: Tensor, bins: Tensor, values: Tensor, count: int) -> Tensor:
    """Return weighted sums of values [image, value] by bins [image, rule].

    The result is float64 [replicate, rule, bin, value], for `count` bins under each rule.
    """
    shape = (bins.shape[1], count, values.shape[1])
    total = torch.zeros((len(weights), math.prod(shape)), dtype=torch.float64)
    for start in range(0, len(values), CHUNK):
        rows = slice(start, start + CHUNK)
        member = torch.nn.functional.one_hot(bins[rows], count)[..., None]
        spread = member * values[rows, None, None, :]
        total += weights[:, rows].to(torch.float64) @ spread.flatten(1)
    return total.reshape(len(weights), *shape)


def _areas(weights: Tensor, wrong: Tensor, group: Tensor, harmonic: Tensor) -> Tensor:
    """Return the areas of replicates, given weights float64 [replicate, image].

    `group` numbers equal confidences, highest first. Within a group of n images and error rate r,
    after N images with E errors, the risks sum to
    sum_m (E + m r) / (N + m) = n r + (E - N r) (H(N + n) - H(N)).
    """
    empty, place = weights.new_zeros(len(weights), int(group.max()) + 1), group.expand_as(weights)
    images = empty.scatter_add(1, place, weights)
    errors = empty.scatter_add(1, place, weights * wrong)
    rate = (errors / images).masked_fill(images == 0, 0.0)
    after = images.cumsum(1)
    before = after - images
    errors_before = errors.cumsum(1) - errors
    span = harmonic[after.long()] - harmonic[before.long()]
    return (errors + (errors_before - before * rate) * span).sum(1) / after[:, -1]


def _error_under(
    gap: NDArray[np.float64], noise: NDArray[np.float64], share: NDArray[np.float64], images: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and deviations of errors, [error], whose true gaps and noises are [error, bin].

    Takes the bins' shares of the images, [bin], and their number.
    """
    sure = np.maximum(noise, TINY)
    mean = sure * math.sqrt(2 / math.pi) * np.exp(-((gap / sure) ** 2) / 2)
    mean += gap * torch.erf(torch.from_numpy(gap / (sure * math.sqrt(2)))).numpy()
    within = np.maximum(gap**2 + sure**2 - mean**2, 0.0).sum(-1)
    per_image = gap / np.maximum(share, TINY)
    between = (per_image**2 @ share - (per_image @ share) ** 2) / images
    return mean.sum(-1), np.sqrt(within + np.maximum(between, 0.0))


def _root(excess: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
    """Return where a function of values from 0 on first reaches zero; 0 where it starts above."""
    edges = np.concatenate(([0.0], 2.0 ** np.arange(LARGEST_POWER + 1)))
    if excess(edges[:1])[0] >= 0:
        return 0.0
    for _ in range(ROUNDS):
        reached = np.append(excess(edges[1:-1]) >= 0, True)
        place = int(reached.argmax())
        edges = np.linspace(edges[place], edges[place + 1], SECTIONS + 1)
    return float(edges[-1])
