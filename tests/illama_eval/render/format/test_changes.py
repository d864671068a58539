from __future__ import annotations

import pytest

from illama_eval.compare.change import Change
from illama_eval.render.format.changes import show_change, show_margin, show_seeds


def change(**fields):
    given = {
        "study": "accuracy",
        "metric": "top1",
        "unit": "fraction",
        "better": "higher",
        "tolerance": 0.001,
        "at": {},
        "images": 400,
        "baseline": 0.8,
        "candidate": 0.7625,
        "difference": -0.0375,
        "low": -0.06,
        "high": -0.02,
    }
    return Change(**{**given, **fields})


def test_fractions_become_percent_and_their_difference_percent_points():
    shown = show_change(change())
    assert shown.name == "top-1 accuracy (%) \N{UPWARDS ARROW}"
    assert (shown.baseline, shown.candidate) == ("80.0", "76.2")
    assert shown.full == ("\N{MINUS SIGN}3.8 pp (95 % \N{MINUS SIGN}6.0 to \N{MINUS SIGN}2.0)")


def test_a_gain_has_its_sign_and_no_change_has_none():
    assert show_change(change(difference=0.0375, low=0.02, high=0.06)).difference == "+3.8"
    assert show_change(change(difference=0.0, low=0.0, high=0.0)).difference == "0"


@pytest.mark.parametrize(
    ("baseline", "candidate", "half", "text"),
    [
        (0.8, 0.80002, 0.02, "0"),
        (0.8, 0.8005, 0.002, "+0.05"),
        (0.01401, 0.0141033, None, "+0.00933"),
        (0.01401, 0.01401 + 6.9e-16, None, "0"),
    ],
    ids=["not shown", "marked", "shown by the values", "rounding"],
)
def test_a_difference_below_what_the_numbers_show_is_0(baseline, candidate, half, text):
    difference = candidate - baseline
    ends = (None, None) if half is None else (difference - half, difference + half)
    given = change(
        baseline=baseline, candidate=candidate, difference=difference, low=ends[0], high=ends[1]
    )
    assert show_change(given).difference == text


def test_another_unit_is_kept_and_a_lone_number_has_no_interval():
    shown = show_change(
        change(metric="nll", unit="nats", better="lower", at={"layer": 2}, low=None, high=None)
    )
    assert shown.name == "NLL, layer 2 (nats) \N{DOWNWARDS ARROW}"
    assert (shown.interval, shown.unit) == ("\N{EM DASH}", "nats")
    assert shown.full == "\N{MINUS SIGN}0.03750 nats"


def test_what_is_not_known_is_a_dash():
    shown = show_change(change(baseline=None, difference=None, low=None, high=None))
    assert (shown.baseline, shown.difference, shown.p) == ("\N{EM DASH}",) * 3


@pytest.mark.parametrize(
    ("p", "text"), [(0.0312, "0.031"), (1.0, "1"), (0.00001, "<0.0001"), (None, "\N{EM DASH}")]
)
def test_p_has_two_digits_or_a_bound(p, text):
    assert show_change(change(p_holm=p)).p == text


def test_a_margin_has_the_unit_of_the_difference():
    assert show_margin(change(), 0.001) == "0.1 pp"
    assert show_margin(change(unit="nats"), 0.005) == "0.005 nats"


def test_the_interval_over_seeds_is_signed():
    assert show_seeds(change(seeds_low=-0.05, seeds_high=0.01)) == "\N{MINUS SIGN}5.0 to +1.0"
    assert show_seeds(change()) == "\N{EM DASH}"
