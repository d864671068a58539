"""Intervals from replicates and from counts; plain numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

REPLICATES = 200
"""Poisson replicates behind every interval."""

LOW_ORDER, HIGH_ORDER = 5, 196
"""Order statistics (from 1) of the 200 replicates that bound a 95 % interval."""

Z95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""

Z_POWER = Z95 + 0.8416212335729143
"""How many standard errors a difference needs to be significant in 80 % of repetitions."""

FALSE_ALARMS = 0.05
"""Share of tests that find a difference, or a miscalibration, where there is none."""

ROUNDING = 1e-12
"""Relative deviation of replicates that is rounding: the value does not vary."""

SYMMETRIC = 1e-6
"""Skewness that is none."""

POISSON_ENDS = (0.0, 0.051293294387550584, 0.35536151069866195, 0.8176914471639534)
"""5 % quantiles of the Gamma distributions of shape 0 to 3: one-sided lower ends of counts."""

SMALL_SAMPLE = 50
"""Trials up to which the first two of those ends are used, not three."""

FEW_DISCORDANT = 25
"""Discordant images below which McNemar's test is the exact one."""

NEWTON_STEPS = 8
"""Steps to Student's quantile, whose error squares with each."""

Array = NDArray[np.float64]


def upper_tail(z: float) -> float:
    """Return the share of the standard normal distribution above `z`."""
    return math.erfc(z / math.sqrt(2)) / 2


def percentile_interval(replicates: Array) -> tuple[float, float]:
    """Return order statistics 5 and 196 of 200 replicates.

    Raises:
        ValueError: there are not 200 finite replicates.
    """
    if replicates.shape != (REPLICATES,) or not np.isfinite(replicates).all():
        raise ValueError(f"interval: expected {REPLICATES} finite replicates")
    ordered = np.sort(replicates)
    return float(ordered[LOW_ORDER - 1]), float(ordered[HIGH_ORDER - 1])


def student_interval(
    estimate: float, replicates: Array, images: int, *, skewed: bool = True
) -> tuple[float, float]:
    """Return Student's interval with the replicates' deviation, corrected for their skewness.

    A mean of few large losses and many small ones is skewed, and so is its interval: Hall's cubic
    transformation of t is inverted (Hall 1992). Replicates of n images deviate by n - 1 n-ths.
    Ratios over few groups are to be called with `skewed=False`: what their replicates have of
    skewness comes from the denominators and from there being 200 of them.

    Raises:
        ValueError: there are not 200 finite replicates, or fewer than two images.
    """
    if replicates.shape != (REPLICATES,) or not np.isfinite(replicates).all() or images < 2:  # noqa: PLR2004 - one image has no spread
        raise ValueError(f"interval: expected {REPLICATES} finite replicates of several images")
    centred = replicates - replicates.mean()
    deviation = math.sqrt(float(centred @ centred) / (REPLICATES - 1))
    if deviation <= ROUNDING * abs(estimate):
        return estimate, estimate
    skewness = float((centred**3).mean()) / deviation**3 if skewed else 0.0
    error = deviation * math.sqrt(images / (images - 1))
    reach = student_quantile(images - 1)
    ends = (_skewed(side * reach, skewness) for side in (1, -1))
    low, high = (estimate - error * end for end in ends)
    return low, high


def _skewed(t: float, skewness: float) -> float:
    """Return the quantile of a skewed t, given the one of Student's, by Hall's transformation."""
    if abs(skewness) < SYMMETRIC:
        return t
    cube = 1 + skewness * (t - skewness / 6)
    return 3 / skewness * (math.copysign(abs(cube) ** (1 / 3), cube) - 1)


def wilson_interval(successes: float, total: float) -> tuple[float, float]:
    """Return the 95 % interval of a proportion: Wilson's score interval, mended near 0 and 1.

    Wilson's alone covers in 84 % where less than one success, or failure, is to be expected.
    So the lower end of one to three successes, or two among at most 50, is the Poisson
    distribution's, and likewise the upper end of so few failures (Brown, Cai and DasGupta 2001).
    From 30 on, it covers in 91.6 % or more, whatever the proportion.

    Raises:
        ValueError: the counts are not 0 <= successes <= total with total > 0.
    """
    if not 0 <= successes <= total or total <= 0:
        raise ValueError(f"wilson: {successes} of {total} is not a proportion")
    share, z = successes / total, Z95
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    low = min(middle - spread / scale, _poisson_end(successes, total))
    high = max(middle + spread / scale, 1 - _poisson_end(total - successes, total))
    return max(0.0, low), min(1.0, high)


def _poisson_end(successes: float, total: float) -> float:
    """Return the lower end of a share of few successes; 1, which is none, of more."""
    count = round(successes)
    few = len(POISSON_ENDS) - (1 if total > SMALL_SAMPLE else 2)
    return POISSON_ENDS[count] / total if count <= few else 1.0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Candidate less baseline over the same images."""

    value: float
    low: float
    high: float
    """Ends of the paired 95 % interval."""
    deviation: float
    """Standard deviation of the difference over the replicates."""
    p: float
    """Two-sided p of no difference, from the normal or Student's distribution."""


def paired_difference(
    baseline: float,
    candidate: float,
    baseline_replicates: Array,
    candidate_replicates: Array,
    *,
    units: int | None = None,
) -> Difference:
    """Return the paired bootstrap of a difference; replicate by replicate, images weigh alike.

    200 replicates cannot show a small p by counting, hence the normal distribution, or Student's
    where `units`, the number of images or of groups that were resampled, is given.

    Raises:
        ValueError: there are not 200 finite replicates on both sides, or fewer than two units.
    """
    replicates = candidate_replicates - baseline_replicates
    low, high = percentile_interval(replicates)
    value = candidate - baseline
    deviation, p = float(replicates.std(ddof=1)), float(value == 0)
    if units is not None:
        low, high = widen(value, low, high, units)
        deviation *= math.sqrt(units / (units - 1))
    if deviation:
        t = value / deviation
        p = math.erfc(abs(t) / math.sqrt(2)) if units is None else student_p(t, units - 1)
    return Difference(value=value, low=low, high=high, deviation=deviation, p=p)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value that resampling biases, with an interval that covers all the same."""

    value: float
    low: float
    high: float
    """Ends of its 95 % interval."""
    replicates: Array

    @property
    def corrected(self) -> float:
        """The value less its bias.

        Where the interval begins at 0 all of the value may be bias, and 0 is taken; elsewhere the
        bias is that of the replicates.
        """
        if self.low <= 0:
            return self.low
        return min(max(2 * self.value - float(self.replicates.mean()), self.low), self.high)


def recovered_difference(baseline: Estimate, candidate: Estimate) -> Difference:
    """Return the difference of two biased estimates of the same images, from their intervals.

    The distances from each corrected value to the ends of its interval stand for two standard
    errors, and join as variances do, less what both have in common by the correlation of their
    replicates (Zou and Donner 2008). The paired bootstrap covers a difference of calibration errors
    in 67 to 96 %, this in 90 to 99 % (tests/illama_eval/test_coverage.py).

    Raises:
        ValueError: there are not 200 finite replicates on both sides.
    """
    for each in (baseline, candidate):
        percentile_interval(each.replicates)
    first, last = baseline.corrected, candidate.corrected
    common = _correlation(baseline.replicates, candidate.replicates)
    value, shift = candidate.value - baseline.value, last - first
    below = _joined(last - candidate.low, baseline.high - first, common)
    above = _joined(candidate.high - last, first - baseline.low, common)
    p = 1.0  # where value and corrected value disagree on which is larger, nothing is shown
    if value * shift > 0:
        toward_zero = below if shift > 0 else above
        p = math.erfc(Z95 * abs(shift) / toward_zero / math.sqrt(2)) if toward_zero else 0.0
    return Difference(
        value=value,
        low=min(shift - below, value),
        high=max(shift + above, value),
        deviation=(below + above) / (2 * Z95),
        p=p,
    )


def _joined(first: float, second: float, correlation: float) -> float:
    return math.sqrt(max(0.0, first**2 + second**2 - 2 * correlation * first * second))


def _correlation(first: Array, second: Array) -> float:
    """Return the correlation of two rows of replicates; 0 where it is negative or undefined."""
    if not first.std() or not second.std():
        return 0.0
    return max(0.0, float(np.corrcoef(first, second)[0, 1]))


def widen(value: float, low: float, high: float, units: int) -> tuple[float, float]:
    """Return an interval of resampled units as wide as so few of them ask for.

    Student's t takes the place of the normal distribution, and n - 1 that of n.

    Raises:
        ValueError: there are fewer than two units.
    """
    if units < 2:  # noqa: PLR2004 - one unit has no spread
        raise ValueError("interval: one image or group has no spread")
    factor = student_quantile(units - 1) / Z95 * math.sqrt(units / (units - 1))
    return value - factor * (value - low), value + factor * (high - value)


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Two-sided tests of whether images are lost as often as they are gained."""

    lost: int
    gained: int
    exact: float
    """From the binomial distribution."""
    mid: float
    """The same with half the weight on what was observed: less conservative."""
    chi_square: float
    """With continuity correction."""
    chi_square_p: float

    @property
    def p(self) -> float:
        """The exact p below 25 discordant images, else the mid-p."""
        return self.exact if self.lost + self.gained < FEW_DISCORDANT else self.mid


def mcnemar(lost: int, gained: int) -> McNemar:
    """Return McNemar's tests for paired answers (Fagerland et al. 2013 for the mid-p).

    Raises:
        ValueError: a count is negative.
    """
    if min(lost, gained) < 0:
        raise ValueError(f"mcnemar: {lost} and {gained} are not counts")
    from scipy.special import bdtr, gammaln  # noqa: PLC0415 - reading runs needs no scipy

    discordant, fewer = lost + gained, min(lost, gained)
    ways = gammaln(discordant + 1) - gammaln(fewer + 1) - gammaln(discordant - fewer + 1)
    observed = math.exp(ways - discordant * math.log(2))
    tail = 2 * float(bdtr(fewer, discordant, 0.5))
    statistic = max(0, abs(lost - gained) - 1) ** 2 / discordant if discordant else 0.0
    return McNemar(
        lost=lost,
        gained=gained,
        exact=min(1.0, tail),
        mid=min(1.0, tail - observed),
        chi_square=statistic,
        chi_square_p=math.erfc(math.sqrt(statistic / 2)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p values, in the order given (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def detectable_difference(lost: int, gained: int, images: int, z: float = Z_POWER) -> float:
    """Return the difference in accuracy that so many discordant images would show.

    With `Z95` it would just be significant; with `Z_POWER` it would be so in 80 % of repetitions.

    Raises:
        ValueError: the counts are no part of the images.
    """
    if min(lost, gained) < 0 or not 0 < images >= lost + gained:
        raise ValueError(f"detectable difference: {lost} and {gained} of {images} images")
    difference = (gained - lost) / images
    return z * math.sqrt(((lost + gained) / images - difference**2) / images)


def welch(baseline: Sequence[float], candidate: Sequence[float]) -> tuple[float, float, float]:
    """Return low, high of the 95 % interval of a difference of means, and its two-sided p.

    For values of independent repetitions, such as training seeds; the spreads may differ. One value
    has none, and is taken to spread as the other side does (Student's test).

    Raises:
        ValueError: neither side has two values.
    """
    sides = baseline, candidate
    known = [(float(np.var(side, ddof=1)), len(side)) for side in sides if len(side) > 1]
    if not known or not min(map(len, sides)):
        raise ValueError("welch: one side needs at least two values, the other one")
    difference = float(np.mean(candidate) - np.mean(baseline))
    if len(known) == 1:
        (spread, count) = known[0]
        error, freedom = math.sqrt(spread * (1 + 1 / count)), count - 1.0
    else:
        parts = [spread / count for spread, count in known]
        error = math.sqrt(sum(parts))
        weighted = sum((spread / n) ** 2 / (n - 1) for spread, n in known)
        freedom = error**4 / weighted if weighted else 1.0
    if not error:
        return difference, difference, float(difference == 0)
    reach = error * student_quantile(freedom)
    return difference - reach, difference + reach, student_p(difference / error, freedom)


def jackknife(values: Array) -> tuple[tuple[float, float], Array]:
    """Return the 95 % interval of a value, and 200 replicates, by a delete-a-group jackknife.

    `values` are the value of all images, then without each of the groups, [1 + group]. Student's
    interval with one degree of freedom less than groups. The replicates spread the groups'
    deviations over cosines that are the same in every run: they deviate as the interval says, and
    of two runs with the same groups their difference is the jackknife of the difference.

    Raises:
        ValueError: there are fewer than two groups.
    """
    groups = len(values) - 1
    if groups < 2:  # noqa: PLR2004 - one group has no spread
        raise ValueError("jackknife: needs at least two groups")
    deviations = math.sqrt((groups - 1) / groups) * (values[1:] - values[1:].mean())
    student = student_quantile(groups - 1)
    reach = student * math.sqrt(float(deviations @ deviations))
    places = (np.arange(REPLICATES) + 0.5) * math.pi / REPLICATES
    cosines = math.sqrt(2 / REPLICATES) * np.cos(places[:, None] * np.arange(1, groups + 1))
    scale = student / Z95 * math.sqrt(REPLICATES - 1)
    estimate = float(values[0])
    return (estimate - reach, estimate + reach), estimate + scale * (cosines @ deviations)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean of independent repetitions, such as seeds.

    Raises:
        ValueError: there are fewer than two values.
    """
    if len(values) < 2:  # noqa: PLR2004 - one value has no spread
        raise ValueError("interval of a mean: needs at least two values")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = student_quantile(len(values) - 1) * error
    return mean - reach, mean + reach


def student_p(t: float, freedom: float) -> float:
    """Return the two-sided p of Student's t; `freedom` need not be whole."""
    from scipy.special import stdtr  # noqa: PLC0415 - reading runs needs no scipy

    return 2 * float(stdtr(freedom, -abs(t)))


@cache
def student_quantile(freedom: float) -> float:
    """Return the t whose two-sided p is 0.05, to nine digits; `freedom`, at least 1, may be broken.

    With t = sqrt(freedom) tan(angle), the probability within t is the integral of
    cos(angle)^(freedom - 1), as a share of its whole. It is solved here by Newton's method:
    scipy's quantile takes a quarter of a second to load, which every small run would pay. The
    result is rounded to twelve digits, so that it does not depend on the machine's BLAS.
    """
    gammas = math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)
    whole = math.sqrt(math.pi) / 2 * math.exp(gammas)
    angle = math.atan(Z95 / math.sqrt(freedom))
    nodes, weights = _nodes()
    for _ in range(NEWTON_STEPS):
        places = angle / 2 * (1 + nodes)
        within = angle / 2 * float(weights @ np.cos(places) ** (freedom - 1))
        angle += ((1 - FALSE_ALARMS) * whole - within) / math.cos(angle) ** (freedom - 1)
    return float(f"{math.sqrt(freedom) * math.tan(angle):.12g}")


@cache
def _nodes() -> tuple[Array, Array]:
    """Return nodes between -1 and 1, and weights, by which smooth functions are integrated."""
    return np.polynomial.legendre.leggauss(64)
