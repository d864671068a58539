"""The algebra of studies: sums that add, replicate weights, rows."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from illama_eval.statistics import REPLICATES, student_interval, wilson_interval
from illama_eval.study import Metric, Pending, accumulate, add, record, row, weigh

IDS = [f"n01440764/image-{number}" for number in range(5000)]

sums = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.integers(-(2**30), 2**30), min_size=3, max_size=3).map(torch.tensor),
)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@given(left=sums, middle=sums, right=sums)
def test_adding_is_associative_and_commutative(left, middle, right):
    assert same(add(add(left, middle), right), add(left, add(middle, right)))
    assert same(add(left, right), add(right, left))


@given(some=sums)
def test_nothing_is_the_zero_of_adding(some):
    assert same(add(some, {}), some)
    assert same(add({}, some), some)


@given(left=sums, right=sums)
def test_adding_leaves_its_operands_as_they_are(left, right):
    before = [{key: value.clone() for key, value in each.items()} for each in (left, right)]
    total = add(left, right)
    for value in total.values():
        value.add_(1)
    assert same(left, before[0])
    assert same(right, before[1])


def test_what_is_pending_is_awaited_when_it_is_added():
    total = {"a": torch.tensor([1.0])}
    with ThreadPoolExecutor(1) as pool:
        parts = tuple(pool.submit(torch.full, (2,), value) for value in (3.0, 4.0))
        accumulate(total, {"a": Pending(parts, lambda joined: joined.sum()[None])})
    assert total["a"].tolist() == [15.0]


def test_accumulating_does_not_alias_what_was_added():
    first = {"a": torch.ones(2)}
    total = {}
    accumulate(total, first)
    accumulate(total, {"a": torch.ones(2)})
    assert first["a"].tolist() == [1, 1]
    assert total["a"].tolist() == [2, 2]


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_record_fills_each_image_at_its_own_position(make_batch, shape):
    labels = torch.zeros(6, dtype=torch.int64)
    parts = [[5, 0], [3], [1, 4]]
    total = {}
    for part in parts:
        batch = make_batch(labels, part)
        values = batch.positions.reshape(-1, *[1] * len(shape)).expand(-1, *shape) + 10
        accumulate(total, {"image/value": record(batch, values)})
    assert total["image/value"].shape == (6, *shape)
    filled = total["image/value"].reshape(6, -1)[:, 0]
    assert filled.tolist() == [10, 11, 0, 13, 14, 15]


def test_replicate_zero_is_the_plain_sum_and_the_others_are_weighted(make_batch):
    batch = make_batch(torch.zeros(4, dtype=torch.int64))
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    found = weigh(batch, values)
    assert found.dtype == torch.float64
    assert found.shape == (1 + REPLICATES,)
    assert found[0] == 15
    assert torch.equal(found, batch.weights @ values.double())
    table = weigh(batch, values[:, None, None].expand(-1, 2, 3))
    assert table.shape == (1 + REPLICATES, 2, 3)
    assert torch.equal(table[:, 1, 2], found)


def varying(estimate: float, middle: float = 0.1) -> torch.Tensor:
    """Return an estimate and 200 replicates around a middle."""
    spread = torch.linspace(-0.05, 0.05, REPLICATES, dtype=torch.float64)
    return torch.cat((torch.tensor([estimate], dtype=torch.float64), middle + spread))


def test_a_row_takes_its_interval_from_the_replicates():
    found = row("brier", varying(0.1), 7, declared=Metric())
    assert (found.low, found.high) == student_interval(0.1, varying(0.1)[1:].numpy(), 7)
    assert found.images == 7
    assert not found.reason
    assert found.replicates is not None
    assert found.replicates.shape == (REPLICATES,)


@pytest.mark.parametrize(
    ("unit", "ends"), [("fraction", (0, 1)), ("nats", (0, math.inf)), ("cosine", (-1, 1))]
)
def test_an_interval_stays_within_what_values_there_can_be(unit, ends):
    values = 40 * (varying(0.1) - 0.1)
    values[0] = 0.5
    found = row("any", values, 9, declared=Metric(unit=unit))
    assert (found.low, found.high > 1) == (ends[0], ends[1] > 1)


@pytest.mark.parametrize("estimate", [0.0, 1.0])
def test_a_share_that_no_image_changes_has_wilsons_interval(estimate):
    values = torch.full((1 + REPLICATES,), estimate, dtype=torch.float64)
    found = row("sink_share", values, 30, declared=Metric(interval="share"))
    assert (found.low, found.high) == wilson_interval(30 * estimate, 30)
    still = row("reach", values, 30, declared=Metric())
    assert still.low == still.high == estimate


def test_decibels_have_the_interval_of_the_noises_share():
    share = varying(0.1)
    found = row("sqnr", -10 * share.log10(), 30, declared=Metric(unit="dB", interval="decibels"))
    low, high = student_interval(0.1, share[1:].numpy(), 30)
    assert (found.low, found.high) == pytest.approx((-10 * math.log10(high), -10 * math.log10(low)))


def test_below_the_least_images_there_is_no_interval_and_a_reason():
    declared = Metric(least_images=100)
    assert row("kl", varying(0.1), 100, declared=declared).low is not None
    found = row("kl", varying(0.1), 99, declared=declared)
    assert (found.low, found.high) == (None, None)
    assert "fewer than 100 images" in found.reason


def test_an_interval_that_would_not_cover_is_withheld_with_its_reason():
    found = row("nll", varying(0.1), 30, declared=Metric(), withheld="too few wrong answers")
    assert (found.low, found.high, found.replicates) == (None, None, None)
    assert found.reason == "no interval: too few wrong answers"


def test_a_given_interval_needs_no_replicates():
    found = row("ece", 0.1, 30, declared=Metric(), interval=(0.05, 0.2))
    assert (found.low, found.high, found.replicates, found.reason) == (0.05, 0.2, None, "")


@pytest.mark.parametrize("interval", ["student", "share", "wilson", "decibels"])
@pytest.mark.parametrize("estimate", [0.0, 0.4, 1.0])
def test_no_interval_excludes_its_estimate(interval, estimate):
    replicates = torch.linspace(0.2, 0.3, REPLICATES, dtype=torch.float64)
    values = torch.cat((torch.tensor([estimate], dtype=torch.float64), replicates))
    found = row("share", values, 50, declared=Metric(interval=interval))
    assert found.low <= estimate <= found.high


def test_too_few_images_have_no_interval_and_say_so():
    values = torch.linspace(0.2, 0.3, REPLICATES + 1, dtype=torch.float64)
    found = row("miou", values, 499, declared=Metric(least_images=500))
    assert (found.low, found.high, found.replicates) == (None, None, None)
    assert "fewer than 500 images" in found.reason
    assert row("miou", values, 500, declared=Metric(least_images=500)).low is not None


def test_a_row_without_replicates_says_so():
    found = row("nonfinite", 3, 7, declared=Metric(unit="images"), at={"layer": 1})
    assert (found.value, found.low, found.high, found.replicates) == (3.0, None, None, None)
    assert found.reason
    assert found.at == {"layer": 1}
    assert found.unit == "images"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_becomes_null_with_a_reason(value):
    found = row("ece", value, 0, declared=Metric())
    assert found.value is None
    assert found.reason
    assert row("ece", value, 0, declared=Metric(), reason="one class").reason == "one class"


def test_an_interval_needs_every_replicate():
    values = torch.ones(1 + REPLICATES, dtype=torch.float64)
    values[9] = math.nan
    found = row("top1", values, 7, declared=Metric())
    assert (found.value, found.low, found.high) == (1, None, None)
    assert "1 of 200 replicates" in found.reason
