"""Intervals from replicates and from counts; plain numpy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

REPLICATES = 200
"""Poisson replicates behind every interval."""

LOW_ORDER, HIGH_ORDER = 5, 196
"""Order statistics (from 1) of the 200 replicates that bound a 95 % interval."""

Z95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""

Array = NDArray[np.float64]


def percentile_interval(replicates: Array) -> tuple[float, float]:
    """Return order statistics 5 and 196 of 200 replicates.

    Raises:
        ValueError: there are not 200 finite replicates.
    """
    if replicates.shape != (REPLICATES,) or not np.isfinite(replicates).all():
        raise ValueError(f"interval: expected {REPLICATES} finite replicates")
    ordered = np.sort(replicates)
    return float(ordered[LOW_ORDER - 1]), float(ordered[HIGH_ORDER - 1])


def basic_interval(estimate: float, replicates: Array) -> tuple[float, float]:
    """Return the basic (pivotal) interval of an error between 0 and 1, clipped to that range.

    For binned calibration errors: the plug-in value is biased upward, and more so in resamples,
    so the percentiles are reflected about the estimate.

    Raises:
        ValueError: there are not 200 finite replicates.
    """
    low, high = percentile_interval(replicates)
    bounds = 2 * estimate - high, 2 * estimate - low
    return min(1.0, max(0.0, bounds[0])), min(1.0, max(0.0, bounds[1]))


def wilson_interval(successes: float, total: float, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion.

    Raises:
        ValueError: the counts are not 0 <= successes <= total with total > 0.
    """
    if not 0 <= successes <= total or total <= 0:
        raise ValueError(f"wilson: {successes} of {total} is no proportion")
    share = successes / total
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    return max(0.0, middle - spread / scale), min(1.0, middle + spread / scale)
