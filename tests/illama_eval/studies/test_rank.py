"""Rank: known answers, parity with a plain SVD, and addition over batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from illama.config import Config
from illama.model import Model
from illama.observation import LayerSeen, OutputSeen
from illama_eval.bootstrap import keys_of
from illama_eval.functional.spectrum import singular_values, stable_rank
from illama_eval.statistics import mean_interval
from illama_eval.studies.rank import Rank, curve_points
from illama_eval.study import accumulate

TOKENS = 197


@pytest.fixture(name="measure_maps")
def fixture_measure_maps(make_batch):
    """A function that runs a study over one layer of maps [image, head, query, key], by batches."""

    def measure_maps(study, softmax, factor, sizes=None):
        total, first = {}, 0
        for size in sizes or (len(softmax),):
            chosen = range(first, first + size)
            part = softmax[chosen]
            piece = LayerSeen(
                index=1,
                open=torch.ones(softmax.shape[-2:], dtype=torch.bool),
                class_index=0,
                image_tokens=slice(1, None),
                factor=factor,
                softmax=part,
                used=part * factor,
                batch=make_batch(torch.zeros(len(softmax)), chosen),
            )
            accumulate(total, study.measure(piece))
            first += size
        return study.summarize(total)

    return measure_maps


def values(findings, metric, **at):
    return [r.value for r in findings.rows if r.metric == metric and dict(r.at) == at]


def value(findings, metric, **at):
    (only,) = values(findings, metric, **at)
    return only


def rank_by_svd(matrix, threshold=0.8):
    """The paper's own few lines, in numpy."""
    sigma = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    return int(np.argmax(np.cumsum(sigma) / sigma.sum() >= threshold)) + 1


def uniform(tokens=TOKENS):
    return torch.full((tokens, tokens), 1 / tokens, dtype=torch.float64)


def local(tokens=TOKENS, width=8.0):
    place = torch.arange(tokens, dtype=torch.float64)
    weights = (-(place[:, None] - place).abs() / width).exp()
    return weights / weights.sum(-1, keepdim=True)


def random_maps(*shape, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator)).softmax(-1)


def test_the_identity_needs_four_fifths_of_its_size_and_a_uniform_map_one(measure_maps):
    maps = torch.stack((torch.eye(TOKENS), uniform().float()))[None]
    findings = measure_maps(Rank(), maps, torch.ones(TOKENS, TOKENS))
    for metric in ("rank_of_mean_map", "rank_per_image"):
        assert value(findings, metric, layer=1, head=1) == math.ceil(0.8 * TOKENS)
        assert value(findings, metric, layer=1, head=2) == 1
    assert value(findings, "effective_rank", layer=1, head=1) == pytest.approx(TOKENS)
    assert value(findings, "stable_rank", layer=1, head=1) == pytest.approx(TOKENS)
    assert value(findings, "energy_rank", layer=1, head=1) == math.ceil(0.9 * TOKENS)
    for metric in ("effective_rank", "stable_rank", "energy_rank"):
        assert value(findings, metric, layer=1, head=2) == pytest.approx(1)
    assert value(findings, "rank_of_mean_map") == (158 + 1) / 2


@pytest.mark.parametrize(
    ("softmax", "bidirectional", "causal"), [(uniform(), 1, 56), (local(), 25, 102)]
)
def test_the_mask_alone_raises_the_rank_of_smooth_maps(
    measure_maps, softmax, bidirectional, causal
):
    lower = torch.ones(TOKENS, TOKENS).tril()
    findings = measure_maps(Rank(), softmax[None, None], lower)
    for metric in ("rank_of_mean_map", "rank_per_image"):
        assert value(findings, metric, layer=1, head=1) == causal
        assert value(findings, metric, layer=1, head=1, map="softmax") == bidirectional


def test_the_energy_rank_of_a_masked_uniform_map_is_two(measure_maps):
    findings = measure_maps(Rank(), uniform()[None, None], torch.ones(TOKENS, TOKENS).tril())
    assert value(findings, "energy_rank", layer=1, head=1) == 2


def test_a_causal_map_with_a_positive_diagonal_has_full_rank(measure_maps):
    findings = measure_maps(
        Rank(threshold=1.0), uniform()[None, None], torch.ones(TOKENS, TOKENS).tril()
    )
    assert value(findings, "rank_of_mean_map", layer=1, head=1) == TOKENS
    assert singular_values(uniform().tril()[None]).min() > 1e-4


def test_the_mean_map_and_the_mean_of_single_ranks_are_two_numbers(measure_maps):
    maps = random_maps(6, 2, 40, 40, scale=3.0)
    findings = measure_maps(Rank(), maps, torch.ones(40, 40).tril())
    for head in (1, 2):
        used = maps[:, head - 1].tril().double()
        of_mean = value(findings, "rank_of_mean_map", layer=1, head=head)
        assert of_mean == rank_by_svd(used.mean(0))
        of_each = value(findings, "rank_per_image", layer=1, head=head)
        assert of_each == pytest.approx(np.mean([rank_by_svd(m) for m in used]))
        assert of_mean != of_each


def test_maps_identical_to_the_used_one_are_left_out(measure_maps):
    maps = random_maps(2, 1, 20, 20)
    kinds = {
        "bidirectional": (torch.ones(20, 20), {"", "masked"}),
        "causal": (torch.ones(20, 20).tril(), {"", "softmax"}),
        "soft": (0.5 + 0.5 * torch.ones(20, 20).tril(), {"", "softmax", "masked"}),
    }
    for factor, expected in kinds.values():
        findings = measure_maps(Rank(), maps, factor)
        assert {r.at.get("map", "") for r in findings.rows} == expected
        assert {c.at.get("map", "") for c in findings.curves} == expected


def test_the_used_map_of_a_soft_mask_comes_from_the_softmax_sum(measure_maps):
    maps = random_maps(3, 1, 30, 30, scale=2.0)
    factor = 0.3 + 0.7 * torch.ones(30, 30).tril()
    findings = measure_maps(Rank(), maps, factor)
    mean = (maps.double() * factor.double()).mean(0)[0]
    assert value(findings, "rank_of_mean_map", layer=1, head=1) == rank_by_svd(mean)


@pytest.mark.parametrize("step", ["class-first-causal", "modified-mask"])
def test_masks_inside_the_softmax_keep_their_own_mean_and_both_controls(measure_model, step):
    model = Model(Config.at(step, "nano", depth=2)).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    findings = measure_model(Rank(), model, images)
    with torch.no_grad():
        first = next(iter(model.observe(images, {"used", "softmax"})))
    maps = {"used": first.used, "softmax": first.softmax, "masked": first.softmax.tril()}
    for kind, seen in maps.items():
        at = {"layer": 1, "head": 2, **({} if kind == "used" else {"map": kind})}
        expected = rank_by_svd(seen[:, 1].double().mean(0))
        assert value(findings, "rank_of_mean_map", **at) == expected


def test_a_released_model_gives_rows_for_every_layer_and_head(measure_model):
    model = Model(Config.at("soft-mask", "nano", depth=3)).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    findings = measure_model(Rank(), model, images)
    heads = [r for r in findings.rows if r.metric == "rank_of_mean_map" and "layer" in r.at]
    assert len(heads) == 2 * 3 * 3  # maps, layers, heads
    assert {r.metric for r in findings.rows} == set(Rank.metrics)
    assert {tuple(r.at) for r in findings.rows if "layer" not in r.at} == {(), ("map",)}


def test_splitting_the_images_does_not_change_the_rows(measure_maps):
    maps = random_maps(7, 2, 33, 33, scale=2.0)
    factor = torch.ones(33, 33).tril()
    whole = measure_maps(Rank(spectra=5), maps, factor)
    split = measure_maps(Rank(spectra=5), maps, factor, sizes=(1, 2, 4))
    assert [(r.metric, r.at, r.images) for r in whole.rows] == [
        (r.metric, r.at, r.images) for r in split.rows
    ]
    for one, other in zip(whole.rows, split.rows, strict=True):
        near = other.value if other.value is None else pytest.approx(other.value, rel=1e-9)
        assert one.value == near
        assert one.low == other.low


def test_single_spectra_come_from_the_images_of_smallest_order(measure_maps, make_batch):
    maps = random_maps(20, 1, 24, 24, scale=2.0)
    findings = measure_maps(Rank(spectra=2), maps, torch.ones(24, 24))
    (row,) = [r for r in findings.rows if (r.metric, r.at) == ("rank_per_image", {})]
    assert row.images == 2
    first = make_batch(torch.zeros(20)).order.argsort()[:2]
    assert row.value == np.mean([rank_by_svd(maps[i, 0]) for i in first])
    every = measure_maps(Rank(spectra=None), maps, torch.ones(24, 24))
    (row,) = [r for r in every.rows if (r.metric, r.at) == ("rank_per_image", {})]
    assert row.images == 20
    assert row.low <= row.value <= row.high


def test_the_mean_map_has_no_interval_and_says_so(measure_maps):
    findings = measure_maps(Rank(), random_maps(3, 1, 8, 8), torch.ones(8, 8))
    (row,) = [r for r in findings.rows if (r.metric, r.at) == ("rank_of_mean_map", {})]
    assert row.low is None
    assert row.high is None
    assert row.reason


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_a_broken_map_is_null_with_a_reason_and_leaves_other_heads_alone(measure_maps, bad):
    maps = random_maps(2, 2, 8, 8)
    maps[:, 0] = bad
    findings = measure_maps(Rank(), maps, torch.ones(8, 8))
    for row in findings.rows:
        if row.at.get("head") == 2:
            assert row.value is not None
        else:
            assert row.value is None
            assert "not finite" in row.reason or row.metric == "rank_of_mean_map_30"
    assert {c.at["head"] for c in findings.curves} == {2}


def test_the_curve_passes_the_threshold_where_the_rank_says(measure_maps):
    findings = measure_maps(Rank(), local()[None, None].float(), torch.ones(TOKENS, TOKENS).tril())
    (curve,) = [c for c in findings.curves if c.name == "cumulative_share" and "map" not in c.at]
    rank = value(findings, "rank_of_mean_map", layer=1, head=1)
    shares = dict(zip(curve.x, curve.y, strict=True))
    assert shares[rank - 1] < 0.8 <= shares[rank]
    assert (curve.x[0], curve.x[-1], curve.y[-1]) == (1, TOKENS, 1)
    assert len(curve.x) <= 64


@pytest.mark.parametrize("length", [1, 2, 64, 65, 197, 577])
def test_curve_points_are_few_and_hold_the_crossing(length):
    for crossing in {1, length // 2 + 1, length}:
        points = curve_points(crossing, length)
        assert len(points) <= 64
        assert {1, crossing, length} <= set(points) <= set(range(1, length + 1))


def test_zero_images_are_refused():
    with pytest.raises(ValueError, match="no image"):
        Rank().summarize({})


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.1}, {"spectra": 0}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="rank: "):
        Rank(**wrong)


def test_the_end_of_the_network_adds_nothing():
    assert Rank().measure(OutputSeen()) == {}


@pytest.mark.data
def test_the_ranks_of_a_trained_model_are_those_of_an_svd(measure_model, shared):
    from illama import load

    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = load(shared / "checkpoints" / "illama_cifar10_nano.pth")
    findings = measure_model(Rank(), model, images)
    with torch.no_grad():
        pieces = list(model.observe(images, {"used", "softmax"}))[:-1]
    for piece in pieces:
        for head in range(piece.used.shape[1]):
            used = piece.used[:, head].double()
            at = {"layer": piece.index, "head": head + 1}
            assert value(findings, "rank_of_mean_map", **at) == rank_by_svd(used.mean(0))
            each = np.mean([rank_by_svd(m) for m in used])
            assert value(findings, "rank_per_image", **at) == pytest.approx(each)


def test_the_rank_of_few_images_and_its_fall_are_those_of_their_mean_maps(measure_maps):
    maps, images = random_maps(160, 2, 9, 9, scale=4.0), 160
    found = measure_maps(Rank(spectra=1), maps, torch.ones(9, 9), sizes=(50, 110))
    order = keys_of(f"test/{number:05d}" for number in range(images)).argsort()
    draws = [maps[order[30 * draw : 30 * draw + 30]].double().mean(0) for draw in range(5)]
    ranks = [np.mean([rank_by_svd(head) for head in draw]) for draw in draws]
    (few,) = (row for row in found.rows if row.metric == "rank_of_mean_map_30" and not row.at)
    assert few.value == pytest.approx(np.mean(ranks))
    assert (few.low, few.high) == pytest.approx(mean_interval(ranks))
    assert "mean over 5 draws of 30 images" in few.reason
    (curve,) = (c for c in found.curves if c.name == "rank_by_images" and not c.at)
    assert (curve.x[0], curve.x[1], curve.x[-1]) == (30, 60, images)
    assert curve.y[0] == pytest.approx(few.value)
    assert curve.y[-1] == pytest.approx(value(found, "rank_of_mean_map"))


def test_the_interval_of_a_mean_maps_rank_is_a_jackknife_over_groups(measure_maps):
    maps, images = random_maps(100, 1, 9, 9, scale=4.0), 100
    found = measure_maps(Rank(spectra=1), maps, torch.ones(9, 9))
    order = keys_of(f"test/{number:05d}" for number in range(images)).argsort()
    groups = [order[5 * group : 5 * group + 5].tolist() for group in range(20)]
    left = [
        stable_rank(singular_values(maps[sorted(set(range(images)) - set(group))].double().mean(0)))
        for group in groups
    ]
    (row,) = (row for row in found.rows if row.metric == "stable_rank" and not row.at)
    error = math.sqrt(19 / 20 * sum((float(x) - float(np.mean(left))) ** 2 for x in left))
    assert row.high - row.value == pytest.approx(2.093024 * error, rel=1e-6)
    assert row.replicates.std(ddof=1) == pytest.approx(error * 2.093024 / 1.959964, rel=1e-6)
