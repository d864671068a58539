"""Paired intervals hold the true difference as often as they say, by simulation.

A pair is two models over the same fresh images. The true differences are known: of an accuracy, of
a ratio of two sums (such as shape bias), and of the calibration error over 15 fixed bins.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from illama_eval.bootstrap import weights_of
from illama_eval.functional.reliability import Bins, bin_by_width
from illama_eval.statistics import (
    Estimate,
    paired_difference,
    recovered_difference,
    wilson_interval,
)
from illama_eval.studies import STUDIES

IMAGES, BINS, FINE = 2000, 15, 200_000


@dataclass(frozen=True)
class Model:
    """Confidence c of an image at difficulty u is 1 - reach * u; it is right with c ** power."""

    reach: float
    power: float

    def confidence(self, difficulty):
        return 1 - self.reach * difficulty

    def chance(self, difficulty):
        return self.confidence(difficulty) ** self.power


def bin_of(confidence):
    return np.ceil(confidence * BINS).astype(int).clip(1, BINS) - 1


def true_error(model):
    """Calibration error of infinitely many images, by the midpoint rule."""
    difficulty = (np.arange(FINE) + 0.5) / FINE
    confidence, chance = model.confidence(difficulty), model.chance(difficulty)
    return np.abs(np.bincount(bin_of(confidence), chance - confidence, BINS)).sum() / FINE


def true_accuracy(model):
    """The integral of (1 - reach u) ** power over u from 0 to 1."""
    whole = model.power + 1
    return (1 - (1 - model.reach) ** whole) / (whole * model.reach)


def errors(weights, confidence, right):
    """Return calibration error and floor for each row of weights."""
    one_hot = np.eye(BINS)[bin_of(confidence)]
    gaps = np.abs(weights @ ((right - confidence)[:, None] * one_hot)).sum(1) / weights.sum(1)
    spread = np.sqrt(weights[0] @ ((confidence * (1 - confidence))[:, None] * one_hot))
    return gaps, math.sqrt(2 / math.pi) * spread.sum() / len(confidence)


def covers(values, truth):
    """Return whether the paired interval of two [201] vectors holds the true difference."""
    (first, before), (last, after) = ((each[0], each[1:]) for each in values)
    found = paired_difference(first, last, before, after)
    return found.low <= truth <= found.high


def draw_pair(random, models, images):
    """Return replicate weights, difficulties and the right answers of two models."""
    keys = torch.from_numpy(random.integers(-(2**63), 2**63 - 1, images))
    difficulty = random.random(images)
    right = np.array([random.random(images) < model.chance(difficulty) for model in models])
    return weights_of(keys).numpy(), difficulty, right


def cover_shares(models, pairs):
    """Return which intervals of differences cover, [pair, (accuracy, ratio)]."""
    random, covered = np.random.default_rng(0), []
    first, last = (true_accuracy(model) for model in models)
    for _ in range(pairs):
        weights, _, right = draw_pair(random, models, IMAGES)
        decided = random.random(IMAGES) < 0.4
        shares = weights @ right.T / weights.sum(1)[:, None]
        ratios = weights @ (right & decided).T / (weights @ decided)[:, None]
        covered.append([covers(each.T, last - first) for each in (shares, ratios)])
    return np.array(covered)


def cover_error_differences(models, pairs, images):
    """Return which intervals of differences of calibration errors cover, and which exclude 0."""
    random, covered, apart = np.random.default_rng(images), [], []
    first, last = (true_error(model) for model in models)
    for _ in range(pairs):
        weights, difficulty, right = draw_pair(random, models, images)
        found = recovered_difference(
            *(
                estimate_of(weights, model.confidence(difficulty), each)
                for model, each in zip(models, right, strict=True)
            )
        )
        covered.append(found.low <= last - first <= found.high)
        apart.append(not found.low <= 0 <= found.high)
    return np.mean(covered), np.mean(apart)


def estimate_of(weights, confidence, right):
    """Return a calibration error with the interval that the study prints."""
    error, _ = errors(weights, confidence, right)
    low, high = bins_of(confidence, right).error_interval()
    return Estimate(value=error[0], low=low, high=high, replicates=error[1:])


CALIBRATED, MISCALIBRATED = Model(reach=0.6, power=1.0), Model(reach=0.6, power=1.6)
PAIRS = {
    "both miscalibrated": (MISCALIBRATED, Model(reach=0.7, power=1.9)),
    "both nearly calibrated": (CALIBRATED, Model(reach=0.7, power=1.02)),
    "both calibrated": (CALIBRATED, CALIBRATED),
    "one calibrated": (CALIBRATED, Model(reach=0.7, power=1.5)),
    "one far from calibrated": (CALIBRATED, Model(reach=0.6, power=3.0)),
}


def test_intervals_of_60_pairs_cover_the_truth():
    pair = PAIRS["both miscalibrated"]
    assert (cover_shares(pair, 60).mean(0) >= 0.83).all()  # .95 less four standard errors
    assert cover_error_differences(pair, 60, 100)[0] >= 0.83


@pytest.mark.slow
def test_intervals_of_500_pairs_cover_the_truth():
    shares = cover_shares(PAIRS["both miscalibrated"], 500).mean(0)
    assert (shares >= 0.92).all()
    assert (shares <= 0.98).all()


@pytest.mark.slow
@pytest.mark.parametrize("images", [30, 100, 359])
@pytest.mark.parametrize("pair", PAIRS)
def test_intervals_of_differences_of_calibration_errors_cover(pair, images):
    covered, apart = cover_error_differences(PAIRS[pair], 200, images)
    print(f"| {pair} | {images} | {covered:.3f} | {apart:.3f} |")  # noqa: T201 - pytest -rP
    assert covered >= 0.85  # 0.9 less 2.4 standard errors
    if len(set(PAIRS[pair])) == 1:
        assert apart <= 0.1


SIZES = (30, 100, 359, 2000)
SCENES = {
    "calibrated": (8, 0.7, 0.0, 1.0),
    "slightly over-confident": (8, 0.7, -0.3, 1.0),
    "too sharp": (4, 1.2, 0.0, 0.8),
    "under-confident": (8, 0.7, 1.0, 1.0),
    "far over-confident": (8, 0.7, -2.0, 1.0),
}
"""Beta distribution of confidence, and shift and scale of the true log-odds."""


def draw_answers(random, images, scene):
    """Return confidences, the true chance of each, and whether the answers are right."""
    first, second, shift, scale = SCENES[scene]
    confidence = 0.1 + 0.9 * random.beta(first, second, images)
    odds = np.log(confidence / (1 - confidence))
    chance = 1 / (1 + np.exp(-(scale * odds + shift)))
    return confidence, chance, random.random(images) < chance


def bins_of(confidence, right):
    """Return the bins as the study makes them."""
    place = bin_by_width(torch.from_numpy(confidence), BINS)

    def total(values):
        return torch.bincount(place, torch.as_tensor(values).double(), BINS)[None]

    return Bins(
        images=total(np.ones(len(right))),
        confidence=total(confidence),
        correct=total(right),
        variance=total(confidence * (1 - confidence)),
    )


def cover_errors(scene, images, draws):
    """Return how often the interval of one ECE covers, and how often calibration is rejected."""
    random = np.random.default_rng(images)
    confidence, chance, _ = draw_answers(np.random.default_rng(9), FINE, scene)
    truth = np.abs(np.bincount(bin_of(confidence), confidence - chance, BINS)).sum() / FINE
    covered = rejected = 0
    for _ in range(draws):
        confidence, _, right = draw_answers(random, images, scene)
        bins = bins_of(confidence, right)
        low, high = bins.error_interval()
        assert low - 1e-12 <= float(bins.error()[0]) <= high + 1e-12
        covered += low <= truth <= high
        rejected += bins.calibrated_p() < 0.05
    return covered / draws, rejected / draws


@pytest.mark.parametrize("images", SIZES)
def test_the_interval_of_a_calibration_error_covers_near_calibration(images):
    covered, rejected = cover_errors("calibrated", images, 150)
    assert covered >= 0.9  # .96 less four standard errors
    assert rejected <= (
        0.11 if images >= 100 else 0.15
    )  # the normal distribution is an approximation


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("images", SIZES)
def test_the_interval_of_a_calibration_error_covers_everywhere(images, scene):
    covered, rejected = cover_errors(scene, images, 600)
    print(f"| ece | {scene} | {images} | {covered:.3f} | {rejected:.3f} |")  # noqa: T201 - pytest -rP
    assert covered >= 0.88  # the lowest in truth, .915, less three standard errors
    if scene == "calibrated":  # the normal distribution is an approximation on few images
        assert 0.02 <= rejected <= (0.09 if images >= 100 else 0.15)


@pytest.mark.parametrize("images", SIZES)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.997])
def test_wilson_covers_shares_near_one(images, share):
    from scipy.stats import binom

    rights = np.arange(images + 1)
    covered = [low <= share <= high for low, high in (wilson_interval(k, images) for k in rights)]
    assert binom.pmf(rights, images, share)[np.array(covered)].sum() >= 0.9


def test_thirty_wrong_answers_at_full_confidence_are_not_calibrated():
    random = np.random.default_rng(0)
    confidence = 0.3 + 0.5 * random.random(30)
    assert bins_of(confidence, np.zeros(30, bool)).calibrated_p() < 1e-4


def test_the_true_values_are_those_of_very_many_images():
    model = Model(reach=0.6, power=1.6)
    random = np.random.default_rng(0)
    difficulty = random.random(400_000)
    right = random.random(len(difficulty)) < model.chance(difficulty)
    assert right.mean() == pytest.approx(true_accuracy(model), abs=2e-3)
    weights = np.ones((1, len(difficulty)))
    assert errors(weights, model.confidence(difficulty), right)[0] == pytest.approx(
        true_error(model), abs=3e-3
    )


ROOT = Path(__file__).parents[2]
AMONG = {"segmentation": 600}
"""Images at which a study prints all intervals that it ever prints; of others 60 are enough."""


@pytest.fixture(scope="module")
def simulation():
    """Return the script that simulates every study."""
    spec = importlib.util.spec_from_file_location("simulation", ROOT / "benchmarks/coverage.py")
    script = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        patch.setitem(sys.modules, "simulation", script)  # its dataclasses look their module up
        spec.loader.exec_module(script)
        yield script


@pytest.mark.parametrize("study", STUDIES)
def test_every_metric_of_every_study_is_simulated(simulation, study):
    random, rows = torch.Generator().manual_seed(0), []
    scenes = simulation.scenes()[study]
    for scene in (scenes[0], scenes[-1]):
        total = simulation.observe(scene, random, AMONG.get(study, 60))
        rows += scene.study.summarize(total).rows
    assert {row.metric for row in rows} == set(STUDIES[study].metrics)


@pytest.mark.slow
@pytest.mark.parametrize("study", [name for name in STUDIES if name != "segmentation"])
def test_the_intervals_of_few_images_cover(simulation, study, monkeypatch):
    monkeypatch.setattr("coverage_truths.TRUTH", 10_000)
    monkeypatch.setattr("coverage_truths.MANY", 10_000)
    found = simulation.simulate(study, (30,), {30: 20})
    judged = {key: tally for key, tally in found.items() if tally.printed >= 20}
    # 13 of 20 or fewer: once in 4,000 where 95 % cover, once in 400 where 90 % do
    assert not list(simulation.failures(judged, 0.7, 1.0))
