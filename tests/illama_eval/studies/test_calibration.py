"""Calibration: known answers on real predictions, edges, splits, verdicts, and scikit-learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from illama_eval.functional.temperature import LOWEST
from illama_eval.studies import calibration
from illama_eval.studies.calibration import Calibration

DATA = Path(__file__).parents[3] / "../shared/data/calibration"

EDGES = (
    [1 / 15, 3 / 15, 0.21, 6 / 15, 0.55, 9 / 15, 14 / 15, 0.95, 0.999, 1.0],
    [0, 0, 1, 0, 1, 0, 1, 1, 1, 0],
)
CLASSES = 20

WHOLE = {
    "lenet-5": {
        "ece": 0.107888,
        "ece_left": 0.107888,
        "ece_mass": 0.107888,
        "mce": 0.185821,
        "nll": 1.369868,
        "brier": 0.614152,
        "classwise_ece": 0.024060,
    },
    "wideresnet-16-4": {
        "ece": 0.053716,
        "ece_left": 0.053716,
        "ece_mass": 0.053716,
        "mce": 0.262389,
        "nll": 0.377804,
        "brier": 0.143871,
        "classwise_ece": 0.012427,
    },
}
HALVES = {
    "lenet-5": {
        "temperature": 1.3735838,
        "ece_unscaled": 0.119264,
        "ece_scaled": 0.022431,
        "nll_unscaled": 1.390480,
        "nll_scaled": 1.325998,
    },
    "wideresnet-16-4": {
        "temperature": 2.0592242,
        "ece_unscaled": 0.055173,
        "ece_scaled": 0.006918,
        "nll_unscaled": 0.373709,
        "nll_scaled": 0.270422,
    },
}


@pytest.fixture(scope="module")
def find(total_of):
    """Return a function that gives what is found in logits and labels."""

    def findings(logits, labels, study=None, groups=None):
        study = study or Calibration()
        return study.summarize(total_of(study, logits, labels, groups))

    return findings


def headline(findings):
    return {row.metric: row for row in findings.rows if not row.at}


def bins_of(findings, metric, **at):
    rows = [row for row in findings.rows if row.metric == metric]
    rows = [row for row in rows if {**row.at, "bin": 0} == {**at, "bin": 0}]
    assert [row.at["bin"] for row in rows] == list(range(1, len(rows) + 1))
    return rows


def verdict(findings, name):
    (found,) = [each for each in findings.verdicts if each.name == name]
    return found


def read(name):
    path = DATA / f"{name}-cifar-10.npz"
    if not path.exists():
        pytest.skip(f"{path.name}: real predictions are not there")
    with np.load(path, allow_pickle=False) as file:
        logits, labels = (
            np.concatenate((file[f"{key}_val"], file[f"{key}_test"]))
            for key in ("logits", "labels")
        )
    return torch.from_numpy(logits), torch.from_numpy(labels).long()


def draw(images=2000, classes=10, sharpness=1.0, seed=0):
    """Return logits that are calibrated at sharpness 1, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    return sharpness * logits, labels


def confident(confidence):
    """Return log probabilities, float64: this one for class 0, equal ones for the others."""
    others = torch.full((CLASSES - 1,), (1 - confidence) / (CLASSES - 1), dtype=torch.float64)
    return torch.cat((torch.tensor([confidence], dtype=torch.float64), others)).log()


@pytest.mark.data
@pytest.mark.parametrize("name", WHOLE)
def test_real_predictions_have_the_known_errors(find, name):
    rows = headline(find(*read(name)))
    assert {key: rows[key].value for key in WHOLE[name]} == pytest.approx(WHOLE[name], abs=5e-7)
    assert all(row.images == 10_000 for row in rows.values())


@pytest.mark.data
@pytest.mark.parametrize("name", HALVES)
def test_real_predictions_have_the_known_temperature_of_their_first_half(find, name):
    rows = headline(find(*read(name), Calibration(split="first-half")))
    expected = HALVES[name]
    assert rows["temperature"].value == pytest.approx(expected["temperature"], abs=5e-7)
    assert {key: rows[key].value for key in expected} == pytest.approx(expected, abs=5e-7)
    assert {rows[key].images for key in expected} == {5000}


@pytest.mark.data
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("split", ["hash", "first-half"])
def test_sums_alone_give_the_same_temperature_and_loss(find, monkeypatch, name, split):
    logits, labels = read(name)
    exact = headline(find(logits, labels, Calibration(split=split)))
    monkeypatch.setattr(calibration, "LOGITS_KEPT", 0)
    groups = torch.arange(len(labels)).split(1700)
    rows = headline(find(logits, labels, Calibration(split=split), [g.tolist() for g in groups]))
    for metric, tolerance in (("temperature", 1e-4), ("nll_scaled", 1e-5)):
        assert rows[metric].value == pytest.approx(exact[metric].value, rel=tolerance)
    assert rows["ece_scaled"].value is None
    assert "too many logits" in rows["ece_scaled"].reason
    assert rows["ece"] == exact["ece"]


def test_the_edge_vector_gives_the_known_errors_of_both_rules(find):
    confidence, correct = EDGES
    logits = torch.stack([confident(value) for value in confidence])
    labels = torch.tensor([0 if hit else CLASSES - 1 for hit in correct])
    rows = headline(find(logits, labels))
    assert rows["ece"].value == pytest.approx(0.262233, abs=5e-7)
    assert rows["ece_left"].value == pytest.approx(0.298900, abs=5e-7)
    assert rows["mce"].value == pytest.approx(0.79, abs=1e-12)
    assert "which holds 1" in rows["mce"].reason


def test_a_perfect_predictor_has_no_error(find):
    labels = torch.arange(60) % 6
    logits = 2000 * torch.nn.functional.one_hot(labels, 6).float()
    found = find(logits, labels)
    rows = headline(found)
    errors = set(Calibration.metrics) & set(rows) - {"confidence", "temperature"}
    tests = {"calibrated_p", "calibrated_p_scaled"}
    assert {rows[key].value for key in tests} == {1}
    errors -= tests
    assert {key: rows[key].value for key in errors} == dict.fromkeys(errors, 0)
    assert rows["confidence"].value == 1
    assert rows["temperature"].value == pytest.approx(LOWEST)
    assert f"stopped at the bound {LOWEST}" in rows["temperature"].reason
    assert verdict(found, "calibration").verdict == "not distinguishable from calibrated"


def test_losses_agree_with_scikit_learn(find):
    from sklearn.metrics import brier_score_loss, log_loss

    logits, labels = draw()
    rows, probabilities = headline(find(logits, labels)), logits.double().softmax(-1).numpy()
    assert rows["nll"].value == pytest.approx(log_loss(labels, probabilities))
    brier = brier_score_loss(labels, probabilities, scale_by_half=False)
    assert rows["brier"].value == pytest.approx(brier)


def test_classwise_error_is_the_mean_over_classes_of_one_against_the_rest(find):
    logits, labels = draw(images=300, classes=4)
    probabilities = logits.double().softmax(-1)
    errors = []
    for number in range(4):
        share, truth = probabilities[:, number], (labels == number).double()
        place = (share * 15).ceil().clamp(1, 15)
        gaps = [(share - truth)[place == bin_].sum().abs() for bin_ in range(1, 16)]
        errors.append(sum(gaps).item() / 300)
    assert headline(find(logits, labels))["classwise_ece"].value == pytest.approx(np.mean(errors))


@pytest.mark.parametrize(
    ("sharpness", "expected"),
    [
        (1.0, "not distinguishable from calibrated"),
        (2.0, "over-confident"),
        (0.5, "under-confident"),
    ],
)
def test_the_verdict_names_the_side_and_its_numbers(find, sharpness, expected):
    found = find(*draw(sharpness=sharpness))
    said, rows = verdict(found, "calibration"), headline(found)
    assert said.verdict == expected
    for metric in ("ece", "ece_floor", "confidence"):
        assert f"{rows[metric].value:.4f}" in said.reason


def test_errors_to_both_sides_are_not_called_one(find):
    sure, unsure = confident(0.9), confident(0.6)
    logits = torch.stack([sure] * 500 + [unsure] * 500)
    labels = torch.full((1000,), CLASSES - 1)
    labels[:300], labels[500:] = 0, 0
    said = verdict(find(logits, labels), "calibration")
    assert said.verdict == "over-confident in some bins, under-confident in others"


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_the_temperature_undoes_the_sharpness(find, sharpness):
    found = find(*draw(sharpness=sharpness))
    rows = headline(found)
    assert rows["temperature"].value == pytest.approx(sharpness, rel=0.05)
    assert rows["ece_scaled"].value < rows["ece"].value
    assert rows["nll_scaled"].value < rows["nll"].value
    assert "not fitted again" in rows["ece_scaled"].reason
    assert rows["temperature"].low < sharpness < rows["temperature"].high
    assert verdict(found, "temperature").verdict == "scaling lowered ece"


def test_each_half_is_scored_with_the_temperature_of_the_other(find, make_batch):
    logits, labels = draw(images=400, sharpness=1.5)
    half = make_batch(labels).keys & 1
    changed = torch.where((half == 0)[:, None], 4 * logits, logits)
    before, after = (headline(find(each, labels))["temperature"] for each in (logits, changed))
    assert after.value == pytest.approx(2 * before.value, rel=1e-9)
    assert before.reason.count("T = ") == 2


def test_a_temperature_from_unlike_images_raises_the_error_with_a_warning(find):
    logits, labels = draw(images=1000)
    logits[:500] *= 4
    found = find(logits, labels, Calibration(split="first-half"))
    rows, said = headline(found), verdict(found, "temperature")
    assert rows["ece_scaled"].value > rows["ece_unscaled"].value
    assert said.verdict == "warning: scaling raised ece"
    assert f"{rows['ece_unscaled'].value:.4f} -> {rows['ece_scaled'].value:.4f}" in said.reason


@pytest.mark.parametrize("split", ["hash", "first-half"])
@pytest.mark.parametrize("kept", [0, 10**9])
def test_one_image_has_no_temperature(find, monkeypatch, split, kept):
    monkeypatch.setattr(calibration, "LOGITS_KEPT", kept)
    found = find(*draw(images=1), Calibration(split=split))
    rows = headline(found)
    for metric in ("temperature", "ece_scaled", "nll_scaled"):
        assert rows[metric].value is None
        assert "no image to fit on" in rows[metric].reason
    assert rows["ece"].value is not None
    assert verdict(found, "temperature").verdict == "not scored"


def test_bins_hold_all_images_and_add_up_to_the_error(find):
    found = find(*draw(sharpness=1.5))
    rows = headline(found)
    for at, metric in (({}, "ece"), ({"scaled": "temperature"}, "ece_scaled")):
        images, confidence, accuracy = (
            bins_of(found, f"bin_{name}", **at) for name in ("images", "confidence", "accuracy")
        )
        assert len(images) == 15
        assert sum(row.value for row in images) == 2000
        error = sum(
            count.value * abs(c.value - a.value)
            for count, c, a in zip(images, confidence, accuracy, strict=True)
            if count.value
        )
        assert error / 2000 == pytest.approx(rows[metric].value)


def test_accuracy_of_a_bin_has_its_wilson_interval_and_an_empty_bin_its_reason(find):
    logits, labels = confident(0.9).expand(10, -1), torch.tensor([0] * 7 + [1] * 3)
    found = find(logits, labels)
    full = bins_of(found, "bin_accuracy")[13]
    assert (full.value, full.images) == (0.7, 10)
    assert (full.low, full.high) == pytest.approx((0.396778, 0.892209), abs=1e-6)
    empty = bins_of(found, "bin_accuracy")[3]
    assert (empty.value, empty.images, empty.reason) == (None, 0, "no image in this bin")
    assert bins_of(found, "bin_images")[3].value == 0


def test_images_without_finite_logits_are_left_out_and_told(find):
    logits, labels = draw(images=300)
    broken = logits.clone()
    broken[:40, 3] = math.nan
    rows, rest = headline(find(broken, labels)), headline(find(logits[40:], labels[40:]))
    assert rows["ece"].images == 260
    assert rows["ece"].value == pytest.approx(rest["ece"].value)
    assert rows["classwise_ece"].value == pytest.approx(rest["classwise_ece"].value)
    assert all("40 of 300 images have no finite logits" in row.reason for row in rows.values())


def test_without_any_finite_logits_every_number_is_null(find):
    found = find(torch.full((5, 3), math.nan), torch.zeros(5, dtype=torch.int64))
    assert found.rows
    assert all(row.value is None for row in found.rows)
    assert all("5 of 5 images have no finite logits" in row.reason for row in found.rows)


def test_one_bin_leaves_the_difference_of_the_means(find):
    rows = headline(find(*draw(), Calibration(bins=1)))
    logits, labels = draw()
    accuracy = (logits.argmax(-1) == labels).double().mean().item()
    gap = abs(rows["confidence"].value - accuracy)
    for metric in ("ece", "ece_left", "ece_mass", "mce", "rmsce"):
        assert rows[metric].value == pytest.approx(gap)


def test_the_error_of_a_calibrated_model_is_not_far_from_its_floor(find):
    rows = headline(find(*draw(images=5000)))
    assert 0.3 < rows["ece"].value / rows["ece_floor"].value < 2
    assert rows["ece"].low < rows["ece_floor"].value


@pytest.mark.parametrize("wrong", [{"bins": 0}, {"bins": -3}, {"split": "random"}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"calibration: (bins|split)="):
        Calibration(**wrong)
