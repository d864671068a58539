from __future__ import annotations

from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illama.training.schedules import drop_path, learning_rate, soft_mask, weight_decay

STEPS_PER_EPOCH = 312
"""Of the paper: 1,281,167 images, 4,096 in a step."""


@pytest.mark.parametrize(("cutoff", "logged"), [(50, 0.99003), (25, 0.98006)])
def test_the_linear_soft_mask_of_the_first_epoch_is_the_one_in_the_released_logs(cutoff, logged):
    steps = cutoff * STEPS_PER_EPOCH
    masks = [
        soft_mask(step, start=1.0, schedule="linear", cutoff_steps=steps)
        for step in range(STEPS_PER_EPOCH)
    ]
    assert fmean(masks) == pytest.approx(1 - 155.5 / (steps - 1), abs=1e-12)
    assert round(fmean(masks), 5) == logged


def test_a_linear_soft_mask_reaches_both_of_its_ends():
    masks = [soft_mask(k, start=0.8, schedule="linear", cutoff_steps=5) for k in range(7)]
    assert masks == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0])


def test_a_constant_soft_mask_falls_at_the_cut_off():
    masks = [soft_mask(k, start=0.7, schedule="constant", cutoff_steps=2) for k in range(4)]
    assert masks == [0.7, 0.7, 0.0, 0.0]


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_short_soft_phases_are_defined(schedule):
    assert soft_mask(0, start=0.5, schedule=schedule, cutoff_steps=0) == 0
    assert soft_mask(0, start=0.5, schedule=schedule, cutoff_steps=1) == 0.5


def test_the_learning_rate_warms_up_to_its_peak_and_falls_by_half_a_cosine():
    rates = [learning_rate(k, peak=1.0, minimum=0.2, warmup_steps=3, steps=7) for k in range(8)]
    half = 0.8 / 2
    root = half * 0.5**0.5
    assert rates == pytest.approx([0, 0.5, 1, 1, 0.6 + root, 0.6, 0.6 - root, 0.2])


def test_the_weight_decay_stays_or_follows_half_a_cosine():
    assert [weight_decay(k, start=0.05, end=None, steps=4) for k in (0, 3)] == [0.05, 0.05]
    decays = [weight_decay(k, start=0.1, end=0.3, steps=4) for k in range(5)]
    assert decays == pytest.approx([0.1, 0.2 - 0.1 * 0.5**0.5, 0.2, 0.2 + 0.1 * 0.5**0.5, 0.3])


@pytest.mark.parametrize(
    ("mode", "schedule", "expected"),
    [
        ("standard", "constant", [0.2, 0.2, 0.2, 0.2]),
        ("late", "constant", [0, 0, 0, 0.2]),
        ("early", "constant", [0.2, 0.2, 0.2, 0]),
        ("early", "linear", [0.2, 0.1, 0, 0]),
    ],
)
def test_paths_are_dropped_always_late_or_early(mode, schedule, expected):
    rates = [drop_path(k, rate=0.2, mode=mode, schedule=schedule, cutoff_steps=3) for k in range(4)]
    assert rates == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_peak():
    assert learning_rate(0, peak=3e-3, minimum=0.0, warmup_steps=0, steps=4) == 3e-3


@given(st.integers(2, 60), st.integers(0, 60), st.sampled_from(["constant", "linear"]))
def test_the_soft_mask_never_rises_and_the_rate_stays_in_its_bounds(steps, first, schedule):
    first = min(first, steps - 1)
    masks = [soft_mask(k, start=1.0, schedule=schedule, cutoff_steps=first) for k in range(steps)]
    rates = [
        learning_rate(k, peak=1.0, minimum=0.1, warmup_steps=first, steps=steps)
        for k in range(steps)
    ]
    assert all(before >= after for before, after in pairwise(masks))
    assert all(0 <= rate <= 1 for rate in rates)
    assert all(before >= after for before, after in pairwise(rates[first:]))
