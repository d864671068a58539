"""Intervals against independent implementations and worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from illama_eval.statistics import (
    REPLICATES,
    Z95,
    basic_interval,
    percentile_interval,
    wilson_interval,
)


def test_the_normal_quantile_is_that_of_95_percent():
    from scipy.stats import norm

    assert norm.ppf(0.975) == pytest.approx(Z95, abs=1e-15)


@given(total=st.integers(1, 2000), data=st.data())
def test_wilson_agrees_with_scipy(total, data):
    from scipy.stats import binomtest

    successes = data.draw(st.integers(0, total))
    expected = binomtest(successes, total).proportion_ci(method="wilson")
    low, high = wilson_interval(successes, total)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "texture", "low", "high"),
    [
        (162, 572, 0.1922, 0.2521),
        (283, 376, 0.3922, 0.4675),
        (228, 503, 0.2794, 0.3464),
        (130, 625, 0.1469, 0.2008),
    ],
)
def test_wilson_gives_the_intervals_of_published_shape_biases(shape, texture, low, high):
    assert wilson_interval(shape, shape + texture) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "total"), [(1, 0), (0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(successes, total):
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(successes, total)


@given(st.permutations(range(1, REPLICATES + 1)))
def test_percentiles_are_the_fifth_and_the_196th_of_200(order):
    assert percentile_interval(np.array(order, dtype=np.float64)) == (5, 196)


def test_percentiles_keep_95_percent_of_the_mass():
    draws = np.random.default_rng(0).normal(size=(4000, REPLICATES))
    bounds = np.array([percentile_interval(each) for each in draws])
    inside = (bounds[:, 0] < 0.0) & (bounds[:, 1] > 0.0)
    assert inside.all()
    from scipy.stats import norm

    covered = norm.cdf(bounds[:, 1]) - norm.cdf(bounds[:, 0])
    assert covered.mean() == pytest.approx(0.95, abs=2e-3)


@pytest.mark.parametrize("count", [199, 201])
def test_other_than_200_replicates_are_refused(count):
    with pytest.raises(ValueError, match="200 finite"):
        percentile_interval(np.zeros(count))


def test_replicates_that_are_not_finite_are_refused():
    values = np.zeros(REPLICATES)
    values[3] = np.nan
    with pytest.raises(ValueError, match="200 finite"):
        percentile_interval(values)


def test_the_basic_interval_mirrors_the_percentiles_and_stops_at_zero():
    values = np.arange(1, REPLICATES + 1) / 1000
    assert basic_interval(0.15, values) == pytest.approx((0.104, 0.295))
    low, high = basic_interval(0.05, values)
    assert low == 0
    assert high == pytest.approx(0.095)
    assert basic_interval(0.001, values + 1) == (0, 0)
