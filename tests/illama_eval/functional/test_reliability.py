"""Bins, the errors over them and the risk-coverage area: known answers and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from illama_eval.bootstrap import keys_of, weights_of
from illama_eval.functional.reliability import (
    CHUNK,
    RULES,
    Scored,
    bin_by_rank,
    bin_by_width,
    replicate_weights,
    sum_by_bin,
)
from illama_eval.statistics import Z95

EDGES = torch.tensor(
    [1 / 15, 3 / 15, 0.21, 6 / 15, 0.55, 9 / 15, 14 / 15, 0.95, 0.999, 1.0], dtype=torch.float64
)
EDGES_CORRECT = torch.tensor([0, 0, 1, 0, 1, 0, 1, 1, 1, 0]).double()

cases = st.lists(
    st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40
)


def score(confidence, correct, weights=None):
    confidence, correct = (torch.as_tensor(x, dtype=torch.float64) for x in (confidence, correct))
    count = len(confidence)
    return Scored(
        keys=keys_of(str(i) for i in range(count)),
        weights=torch.ones(1, count) if weights is None else torch.as_tensor(weights)[None],
        confidence=confidence,
        correct=correct,
        nll=torch.zeros(count).double(),
        brier=torch.zeros(count).double(),
    )


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_the_edge_vector_tells_the_rules_apart():
    rules = score(EDGES, EDGES_CORRECT).tabulate(15).rules
    assert rules["right"].error().item() == pytest.approx(0.262233, abs=5e-7)
    assert rules["right"].gaps.max().item() == pytest.approx(0.79, abs=1e-12)
    assert rules["left"].error().item() == pytest.approx(0.298900, abs=5e-7)
    assert rules["left"].gaps.max().item() == pytest.approx(0.60, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 2, 7, 10, 15, 20, 25, 30, 50, 97])
def test_an_edge_lies_in_the_bin_on_the_closed_side(bins):
    edges = torch.arange(bins + 1, dtype=torch.float64) / bins
    right, left = bin_by_width(edges, bins), bin_by_width(edges, bins, closed="left")
    assert right.tolist() == [0, *range(bins)]
    assert left.tolist() == [*range(bins), bins - 1]
    for nudge in (-4, 4):
        near = edges * (1 + nudge * torch.finfo(torch.float64).eps)
        assert torch.equal(bin_by_width(near, bins), right)
        assert torch.equal(bin_by_width(near, bins, closed="left"), left)
    assert torch.equal(bin_by_width(edges[1:] - 1e-9, bins), torch.arange(bins))
    assert torch.equal(bin_by_width(edges[:-1] + 1e-9, bins, closed="left"), torch.arange(bins))


@given(st.permutations(range(37)), st.integers(1, 50))
def test_bins_of_equal_mass_are_those_of_a_sorted_array_split(values, bins):
    found = bin_by_rank(torch.tensor(values, dtype=torch.float64), bins)
    for number, members in enumerate(np.array_split(np.argsort(values), bins)):
        assert sorted((found == number).nonzero()[:, 0].tolist()) == sorted(members.tolist())


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.5000001, 1.0]), min_size=1), st.integers(1, 20))
def test_images_of_equal_confidence_share_a_bin_of_equal_mass(values, bins):
    confidence = torch.tensor(values, dtype=torch.float64)
    found = bin_by_rank(confidence, bins)
    assert (found.diff()[confidence.diff() == 0] == 0).all()
    assert (found[confidence.argsort(stable=True)].diff() >= 0).all()
    assert 0 <= found.min() <= found.max() < bins


def test_of_equal_confidences_the_middle_one_decides_the_bin_of_equal_mass():
    assert bin_by_rank(torch.tensor([0.1, 0.5, 0.5, 0.5, 0.9, 1.0]), 3).tolist() == [
        *(0, 1, 1, 1),
        *(2, 2),
    ]


@given(cases, st.integers(1, 20))
def test_errors_follow_their_definitions(images, bins):
    confidence, correct, weights = (list(column) for column in zip(*images, strict=True))
    if not any(weights):
        weights[0] = 1
    found = score(confidence, correct, weights).tabulate(bins).rules["right"]
    members = [[] for _ in range(bins)]
    for c, y, w in zip(confidence, correct, weights, strict=True):
        members[sum(c > edge / bins for edge in range(1, bins))] += [(c, y)] * w
    total = sum(map(len, members))
    gaps = [abs(sum(c - y for c, y in m)) / max(len(m), 1) for m in members]
    shares = [len(m) / total for m in members]
    noise = [sum(c * (1 - c) for c, _ in m) for m in members]
    assert found.error().item() == pytest.approx(dot(shares, gaps), abs=1e-9)
    assert found.gaps.max().item() == pytest.approx(max(gaps), abs=1e-9)
    squares = [gap * gap for gap in gaps]
    rms = math.sqrt(dot(shares, squares))
    assert found.root_mean_square().item() == pytest.approx(rms, abs=1e-7)
    rates = [sum(y for _, y in m) / max(len(m), 1) for m in members]
    biases = [r * (1 - r) / max(len(m) - 1, 1) for r, m in zip(rates, members, strict=True)]
    debiased = math.sqrt(max(dot(shares, squares) - dot(shares, biases), 0))
    assert found.debiased_root_mean_square().item() == pytest.approx(debiased, abs=1e-7)
    floor = math.sqrt(2 / math.pi) * sum(map(math.sqrt, noise)) / total
    assert found.floor().item() == pytest.approx(floor, abs=1e-7)


def test_the_floor_is_the_error_that_calibrated_predictions_show():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(4000, generator=generator).double()
    errors = []
    for _ in range(40):
        correct = torch.rand(4000, generator=generator).double() < confidence
        bins = score(confidence, correct).tabulate(15).rules["right"]
        errors.append(bins.error().item())
    assert np.mean(errors) == pytest.approx(bins.floor().item(), rel=0.1)


@pytest.mark.parametrize("wrong", range(3, 31, 3))
def test_an_error_interval_begins_at_0_where_a_calibrated_model_may_show_the_error(wrong):
    confidence, correct = [0.7] * 40 + [0.9] * 40, [1] * 20 + [0] * 20 + [1] * (40 - wrong)
    bins = score(confidence, correct + [0] * wrong).tabulate(15).rules["right"]
    assert (bins.error_interval()[0] > 0) == (bins.calibrated_p() < 0.025)


def test_the_noise_of_a_bin_is_that_under_the_error_tested():
    bins = score([0.8] * 400, [1] * 80 + [0] * 320).tabulate(15).rules["right"]
    low, high = bins.error_interval()
    tested = 0.8 - low * 400 / 402  # two more images of the bin's confidence
    assert low == pytest.approx(0.6 - Z95 * math.sqrt(tested * (1 - tested) / 400), abs=1e-9)
    seen = 0.8 - 0.6 * 400 / 402
    assert high == pytest.approx(0.6 + Z95 * math.sqrt(seen * (1 - seen) / 400), abs=1e-9)


def test_debiasing_takes_away_what_noise_adds_and_leaves_a_real_error():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(4000, generator=generator).double()
    correct = torch.rand(4000, generator=generator).double() < confidence
    bins = score(confidence, correct).tabulate(15).rules["right"]
    assert bins.debiased_root_mean_square() < 0.6 * bins.root_mean_square()
    off = score(0.5 * confidence, correct).tabulate(15).rules["right"]
    assert off.debiased_root_mean_square() > 0.99 * off.root_mean_square()


def test_a_bin_of_one_image_is_not_debiased():
    bins = score([0.7], [1.0]).tabulate(15).rules["right"]
    assert bins.debiased_root_mean_square().item() == pytest.approx(0.3)


def test_a_perfect_predictor_has_no_error_under_any_rule():
    table = score(torch.ones(50), torch.ones(50)).tabulate(15)
    assert set(table.rules) == set(RULES)
    for bins in table.rules.values():
        assert bins.error() == bins.gaps.max() == bins.root_mean_square() == bins.floor() == 0
    assert table.confidence == table.accuracy == 1


def test_replicates_are_weighted_sums_of_all_chunks():
    count = CHUNK + 7
    keys = keys_of(map(str, range(count)))
    weights = replicate_weights(keys)
    assert weights.dtype == torch.uint8
    assert torch.equal(weights.double(), weights_of(keys))
    values = torch.arange(count, dtype=torch.float64)[:, None]
    bins = (torch.arange(count) % 3)[:, None]
    found = sum_by_bin(weights, bins, values, 3)
    assert found.shape == (201, 1, 3, 1)
    for number in range(3):
        member = bins[:, 0] == number
        expected = weights.double()[:, member] @ values[member, 0]
        assert torch.allclose(found[:, 0, number, 0], expected, rtol=1e-12)


def area_by_hand(confidence, wrong):
    """Average over all orders of equals of the mean error rate among the first k."""
    order = sorted(range(len(confidence)), key=lambda i: -confidence[i])
    total = errors = area = 0.0
    for value in sorted(set(confidence), reverse=True):
        group = [i for i in order if confidence[i] == value]
        rate = sum(wrong[i] for i in group) / len(group)
        for _ in group:
            total, errors = total + 1, errors + rate
            area += errors / total
    return area / len(confidence)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.2, 0.4, 0.6, 0.9]), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=30,
    )
)
def test_the_area_repeats_an_image_by_its_weight(images):
    confidence, correct, weights = (list(column) for column in zip(*images, strict=True))
    if not any(weights):
        weights[0] = 2
    found = score(confidence, correct, weights).area_under_risk().item()
    repeated = [i for i, weight in enumerate(weights) for _ in range(weight)]
    wrong = [1 - correct[i] for i in repeated]
    assert found == pytest.approx(area_by_hand([confidence[i] for i in repeated], wrong), abs=1e-12)


def test_the_area_without_equals_is_the_mean_of_running_error_rates():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(500, generator=generator).double()
    correct = (torch.rand(500, generator=generator) < 0.7).double()
    wrong = (1 - correct)[confidence.argsort(descending=True)]
    expected = (wrong.cumsum(0) / torch.arange(1, 501)).mean().item()
    assert score(confidence, correct).area_under_risk().item() == pytest.approx(expected, rel=1e-12)


def test_sure_errors_cost_more_area_than_unsure_ones():
    confidence = torch.linspace(1, 0, 10).double()
    correct = torch.ones(10)
    early, late = correct.clone(), correct.clone()
    early[0], late[-1] = 0, 0
    areas = [score(confidence, each).area_under_risk().item() for each in (early, late)]
    assert areas[0] > areas[1] == pytest.approx(0.01)
    assert score(confidence, correct).area_under_risk() == 0
