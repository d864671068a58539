"""Intervals against independent implementations and worked numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from illama_eval.statistics import (
    REPLICATES,
    Z95,
    Estimate,
    detectable_difference,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    percentile_interval,
    recovered_difference,
    student_interval,
    student_p,
    student_quantile,
    welch,
    widen,
    wilson_interval,
)


def test_the_normal_quantile_is_that_of_95_percent():
    from scipy.stats import norm

    assert norm.ppf(0.975) == pytest.approx(Z95, abs=1e-15)


@given(total=st.integers(8, 2000), data=st.data())
def test_wilson_agrees_with_scipy_away_from_the_ends(total, data):
    from scipy.stats import binomtest

    successes = data.draw(st.integers(4, total - 4))
    expected = binomtest(successes, total).proportion_ci(method="wilson")
    low, high = wilson_interval(successes, total)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)


@given(total=st.integers(51, 2000), successes=st.integers(1, 3))
def test_of_few_successes_or_failures_the_end_is_that_of_their_poisson_distribution(
    total, successes
):
    from scipy.stats import binomtest, poisson

    low, high = wilson_interval(successes, total)
    assert poisson.sf(successes - 1, low * total) == pytest.approx(0.05)
    expected = binomtest(successes, total).proportion_ci(method="wilson")
    assert low < expected.low
    assert high == pytest.approx(expected.high, abs=1e-12)
    others = wilson_interval(total - successes, total)
    assert others == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("total", [1, 30, 100])
def test_of_none_or_all_an_end_is_exact(total):
    assert wilson_interval(0, total)[0] == 0.0
    assert wilson_interval(total, total)[1] == 1.0


@pytest.mark.parametrize("total", [30, 50, 51, 100, 359, 2000])
def test_wilson_covers_whatever_the_proportion(total):
    """Exact probabilities of the counts, for proportions down to a fiftieth of an image."""
    from scipy.stats import binom

    counts = np.arange(total + 1)
    low, high = np.array([wilson_interval(count, total) for count in counts]).T
    shares = np.geomspace(0.02 / total, 0.5, 400)[:, None]
    inside = (low <= shares) & (shares <= high)
    covered = (binom.pmf(counts, total, shares) * inside).sum(1)
    assert covered.min() > 0.915


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
    with pytest.raises(ValueError, match="not a proportion"):
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


def test_without_skewness_the_interval_is_students():
    spread = np.array([-1.0, 1.0] * (REPLICATES // 2)) * math.sqrt((REPLICATES - 1) / REPLICATES)
    reach = 2.262157 * math.sqrt(10 / 9)  # t of nine degrees of freedom; of ten images
    assert student_interval(5.0, 5 + spread, 10) == pytest.approx((5 - reach, 5 + reach))


def test_the_interval_of_skewed_replicates_reaches_further_to_the_long_side():
    replicates = np.random.default_rng(0).gamma(4, size=REPLICATES)
    low, high = student_interval(4.0, replicates, 50)
    assert high - 4 > 1.3 * (4 - low) > 0
    plain = student_interval(4.0, replicates, 50, skewed=False)
    assert 4.0 - plain[0] == pytest.approx(plain[1] - 4.0)
    assert plain[1] < high
    mirrored = student_interval(-4.0, -replicates, 50)
    assert mirrored == pytest.approx((-high, -low))


def test_replicates_that_do_not_vary_have_an_interval_of_no_width():
    assert student_interval(0.1, np.full(REPLICATES, 0.1), 50) == (0.1, 0.1)
    with pytest.raises(ValueError, match="several images"):
        student_interval(0.1, np.full(REPLICATES, 0.1), 1)


def test_the_interval_of_a_mean_of_repetitions_agrees_with_scipy():
    from scipy.stats import t, ttest_1samp

    values = [10.3, 12.0, 12.4, 12.6, 14.9]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((expected.low, expected.high))
    assert t.ppf(0.975, 4) == pytest.approx(2.776, abs=1e-3)
    with pytest.raises(ValueError, match="at least two"):
        mean_interval([1.0])


def test_mcnemar_of_106_against_82_discordant_images():
    found = mcnemar(106, 82)
    assert found.exact == pytest.approx(0.093191, abs=5e-7)
    assert found.chi_square == pytest.approx(2.813830, abs=5e-7)
    assert found.p == found.mid < found.exact


@given(lost=st.integers(0, 400), gained=st.integers(0, 400))
def test_mcnemar_agrees_with_scipy(lost, gained):
    from scipy.stats import binom, binomtest, chi2

    found, total = mcnemar(lost, gained), lost + gained
    exact = binomtest(lost, total).pvalue if total else 1.0
    assert found.exact == pytest.approx(exact, rel=1e-9)
    point = binom.pmf(min(lost, gained), total, 0.5)
    assert found.mid == pytest.approx(min(1, 2 * binom.cdf(min(lost, gained), total, 0.5) - point))
    assert found.chi_square_p == pytest.approx(chi2.sf(found.chi_square, 1))
    assert found.p == (found.exact if total < 25 else found.mid)
    assert mcnemar(gained, lost).p == found.p


def test_mcnemar_of_an_image_net_is_exact_to_nine_digits():
    from scipy.stats import binomtest

    assert mcnemar(20_000, 20_500).exact == pytest.approx(
        binomtest(20_000, 40_500).pvalue, rel=1e-9
    )


def test_mcnemar_without_discordant_images_shows_no_difference():
    found = mcnemar(0, 0)
    assert (found.exact, found.mid, found.chi_square, found.chi_square_p) == (1, 1, 0, 1)


def test_mcnemar_refuses_what_is_no_count():
    with pytest.raises(ValueError, match="not counts"):
        mcnemar(-1, 3)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_never_lowers_a_p(p_values):
    adjusted = holm(p_values)
    assert all(raw <= found <= 1 for raw, found in zip(p_values, adjusted, strict=True))
    ordered = [found for _, found in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)


def test_the_detectable_difference_is_that_of_the_worked_example():
    just = detectable_difference(106, 82, 1280, Z95)
    assert just == pytest.approx(1.959964 * np.sqrt(188 / 1280**2 - (24 / 1280) ** 2 / 1280))
    power = detectable_difference(106, 82, 1280)
    assert power / just == pytest.approx(2.80 / 1.96, abs=2e-3)
    assert detectable_difference(0, 0, 10) == 0
    with pytest.raises(ValueError, match="of 3 images"):
        detectable_difference(2, 2, 3)


def test_a_difference_just_detectable_is_significant_in_80_percent_of_repetitions():
    random = np.random.default_rng(0)
    images, lost = 4000, 0.05
    power = detectable_difference(int(lost * images), int(0.07 * images), images)
    gained = lost + power
    draws = random.multinomial(images, [lost, gained, 1 - lost - gained], size=2000)
    share = np.mean([mcnemar(a, b).p < 0.05 for a, b, _ in draws.tolist()])
    assert share == pytest.approx(0.8, abs=0.04)


def test_the_paired_difference_follows_the_replicates_image_by_image():
    base = np.random.default_rng(0).normal(size=REPLICATES)
    found = paired_difference(1.0, 1.5, base, base + 0.5)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    order = np.arange(1.0, REPLICATES + 1)
    spread = paired_difference(0.0, 100.0, base, base + order)
    assert (spread.low, spread.high) == pytest.approx((5, 196))
    assert spread.deviation == pytest.approx(order.std(ddof=1))


def test_a_paired_difference_of_nothing_has_no_width_and_p_1():
    base = np.random.default_rng(0).normal(size=REPLICATES)
    found = paired_difference(0.3, 0.3, base, base)
    assert (found.value, found.low, found.high, found.deviation, found.p) == (0, 0, 0, 0, 1)
    assert paired_difference(0.3, 0.4, base, base).p == 0


def test_the_p_of_a_paired_difference_is_that_of_the_normal_distribution():
    from scipy.stats import norm
    from scipy.stats import t as student

    noise = np.random.default_rng(0).normal(size=REPLICATES)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    sides = 0.0, 1.7, np.zeros(REPLICATES), 1.7 + noise
    assert paired_difference(*sides).p == pytest.approx(2 * norm.sf(1.7))
    few = paired_difference(*sides, units=30)
    assert few.p == pytest.approx(2 * student.sf(1.7 * math.sqrt(29 / 30), 29))


def estimate(value, low, high, replicates=None):
    spread = np.linspace(-1, 1, REPLICATES) if replicates is None else replicates
    return Estimate(value=value, low=low, high=high, replicates=value + spread)


def test_a_recovered_difference_joins_both_intervals_as_variances_join():
    waves = np.pi * (np.arange(REPLICATES) + 0.5) / REPLICATES
    apart = estimate(1.0, 0.7, 1.4, np.cos(waves)), estimate(5.0, 4.6, 5.3, np.cos(2 * waves))
    found = recovered_difference(*apart)
    assert (found.low, found.high) == pytest.approx((4 - math.sqrt(0.32), 4 + math.sqrt(0.18)))
    assert found.value == 4.0
    together = recovered_difference(estimate(1.0, 0.7, 1.3), estimate(5.0, 4.6, 5.4))
    assert (together.low, together.high) == pytest.approx((3.9, 4.1))


@given(
    ends=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    reach=st.floats(-1, 1).filter(lambda x: abs(x) > 1e-3),
)
def test_p_is_below_5_percent_where_the_recovered_interval_excludes_0(ends, reach):
    sides = []
    for low, value, high in (sorted(ends[:3]), sorted(ends[3:])):
        sides.append(estimate(value, low, high, reach * np.linspace(-1, 1, REPLICATES)))
    found = recovered_difference(*sides)
    assert found.low <= found.value <= found.high
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


def test_an_interval_from_0_may_be_all_bias_and_other_bias_is_that_of_the_replicates():
    assert estimate(0.02, 0.0, 0.03).corrected == 0.0
    biased = estimate(0.10, 0.05, 0.12, 0.01 + np.linspace(-1, 1, REPLICATES))
    assert biased.corrected == pytest.approx(0.09)
    assert estimate(0.10, 0.098, 0.12, np.full(REPLICATES, 0.01)).corrected == 0.098


def test_a_recovered_difference_of_nothing_has_no_width_and_p_1():
    side = estimate(0.3, 0.3, 0.3)
    found = recovered_difference(side, side)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="200 finite replicates"):
        recovered_difference(side, replace(side, replicates=np.zeros(3)))


def test_few_units_widen_an_interval_as_student_does():
    from scipy.stats import t as student

    low, high = widen(0.5, 0.5 - Z95, 0.5 + 2 * Z95, 30)
    factor = student.ppf(0.975, 29) * math.sqrt(30 / 29)
    assert (low, high) == pytest.approx((0.5 - factor, 0.5 + 2 * factor))
    assert widen(0.5, 0.4, 0.6, 10**7) == pytest.approx((0.4, 0.6), rel=1e-5)
    with pytest.raises(ValueError, match="no spread"):
        widen(0.5, 0.4, 0.6, 1)


@pytest.mark.parametrize("freedom", [1, 1.7, 2, 3.3, 10, 200, 5000.5])
@pytest.mark.parametrize("t", [0, -0.3, 2, 8])
def test_student_agrees_with_scipy(t, freedom):
    from scipy.stats import t as student

    assert student_p(t, freedom) == pytest.approx(2 * student.sf(abs(t), freedom), rel=1e-6)


@given(freedom=st.one_of(st.floats(1, 100), st.integers(1, 50_000)))
def test_the_quantile_of_student_is_that_of_scipy(freedom):
    from scipy.special import stdtrit

    assert student_quantile(freedom) == pytest.approx(stdtrit(freedom, 0.975), rel=1e-9)


@pytest.mark.parametrize(
    ("baseline", "candidate"),
    [
        ([0.771, 0.774, 0.769], [0.779, 0.781, 0.776]),
        ([1.0, 2.0], [1.0, 4.0, 2.5]),
        ([0.0, 1.0], [0.0, 3.0]),
        ([5.0, 5.5, 4.9, 5.1, 5.2], [7.0, -3.0]),
    ],
)
def test_welch_agrees_with_scipy(baseline, candidate):
    from scipy.stats import ttest_ind

    low, high, p = welch(baseline, candidate)
    expected = ttest_ind(candidate, baseline, equal_var=False)
    assert p == pytest.approx(expected.pvalue, rel=1e-5)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-5)


def test_welch_of_seeds_that_agree_exactly_has_no_width():
    assert welch([0.5, 0.5], [0.75, 0.75]) == (0.25, 0.25, 0)
    assert welch([0.5, 0.5], [0.5, 0.5]) == (0, 0, 1)


@pytest.mark.parametrize("alone", [0, 1])
def test_one_seed_is_taken_to_spread_as_the_others_do(alone):
    from scipy.stats import ttest_ind

    sides = [[0.6], [0.79, 0.81, 0.76]] if alone == 0 else [[0.79, 0.81, 0.76], [0.6]]
    low, high, p = welch(*sides)
    expected = ttest_ind(sides[1], sides[0], equal_var=True)
    assert p == pytest.approx(expected.pvalue, rel=1e-5)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-5)


@pytest.mark.parametrize("sides", [([1.0], [2.0]), ([], [1.0, 2.0])])
def test_welch_needs_two_seeds_on_a_side(sides):
    with pytest.raises(ValueError, match="at least two"):
        welch(*sides)
