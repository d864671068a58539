"""Accuracy: known answers, ties, broken logits, agreement with scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch

from illama_eval.functional.predictions import LARGEST_NLL
from illama_eval.studies.accuracy import Accuracy


def draw(images=200, classes=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, classes, generator=generator)
    return logits, torch.randint(0, classes, (images,), generator=generator)


@pytest.fixture
def find(total_of):
    """Return a function that gives the rows of logits and labels by metric."""

    def rows(logits, labels):
        found = Accuracy().summarize(total_of(Accuracy(), logits, labels))
        return {row.metric: row for row in found.rows}

    return rows


def test_a_perfect_predictor_is_always_right(find):
    labels = torch.arange(30) % 6
    rows = find(100 * torch.nn.functional.one_hot(labels, 6).float(), labels)
    for metric in ("top1", "top5"):
        assert (rows[metric].value, rows[metric].high) == (1, 1)
        assert rows[metric].low == pytest.approx(30 / (30 + 1.959963984540054**2))  # Wilson's
    assert rows["nll"].value == pytest.approx(0, abs=1e-12)
    assert rows["nonfinite"].value == 0


def test_the_true_class_counts_at_its_rank(find):
    logits = -torch.arange(8.0).expand(8, 8)
    rows = find(logits, torch.arange(8))
    assert rows["top1"].value == 1 / 8
    assert rows["top5"].value == 5 / 8


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_constant_logits_score_what_always_answering_the_first_class_does(find, value):
    rows = find(torch.full((40, 20), value), torch.arange(40) % 20)
    assert rows["top1"].value == 1 / 20
    assert rows["top5"].value == 5 / 20
    assert rows["nll"].value == pytest.approx(math.log(20))


@pytest.mark.parametrize("classes", [2, 5, 6])
def test_top5_of_five_classes_or_fewer_is_not_reported(find, classes):
    found = find(*draw(classes=classes))["top5"]
    assert (found.value is None) == (classes <= 5)
    assert found.value is not None or "five classes or fewer" in found.reason


def test_scores_agree_with_scikit_learn(find):
    from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

    logits, labels = draw()
    rows = find(logits, labels)
    probabilities = logits.double().softmax(-1).numpy()
    classes = range(10)
    assert rows["top1"].value == accuracy_score(labels, logits.argmax(-1))
    top5 = top_k_accuracy_score(labels, probabilities, k=5, labels=classes)
    assert rows["top5"].value == pytest.approx(top5)
    assert rows["nll"].value == pytest.approx(log_loss(labels, probabilities, labels=classes))


def test_intervals_hold_the_value_and_are_as_wide_as_theory_says(find):
    row = find(*draw(images=5000))["top1"]
    assert row.low < row.value < row.high
    width = 2 * 1.96 * math.sqrt(row.value * (1 - row.value) / 5000)
    assert row.high - row.low == pytest.approx(width, rel=0.3)


def test_logits_that_are_not_finite_are_wrong_and_reported(find):
    logits, labels = draw(images=50)
    logits[:3, 0], logits[3:5, 1] = math.nan, math.inf
    rows = find(logits, labels)
    right = (logits[5:].argmax(-1) == labels[5:]).sum().item()
    assert rows["top1"].value == right / 50
    assert rows["nonfinite"].value == 5
    assert rows["nonfinite"].unit == "images"
    assert "5 of 50 images" in rows["top1"].reason
    assert all(row.images == 50 for row in rows.values())


def test_a_model_that_is_nan_throughout_is_never_right(find):
    rows = find(torch.full((10, 6), math.nan), torch.zeros(10, dtype=torch.int64))
    assert rows["top1"].value == rows["top5"].value == 0
    assert rows["nll"].value == pytest.approx(LARGEST_NLL)
    assert rows["nonfinite"].value == 10


def test_records_hold_each_image_in_its_place(total_of):
    logits, labels = draw(images=20)
    total = total_of(Accuracy(), logits, labels, [[7, 3], range(10, 20)])
    seen = total["image/seen"].bool()
    assert seen.nonzero()[:, 0].tolist() == [3, 7, *range(10, 20)]
    assert torch.equal(total["image/label"][seen], labels[seen])
    assert torch.equal(total["image/prediction"][seen], logits.argmax(-1)[seen])
    true = logits.gather(1, labels[:, None])
    assert torch.equal(total["image/rank"][seen], (logits > true).sum(-1)[seen])
    loss = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    assert torch.allclose(total["image/nll"][seen], loss[seen])
    confidence = logits.double().softmax(-1).amax(-1)
    assert torch.allclose(total["image/confidence"][seen], confidence[seen])


@pytest.mark.parametrize(
    ("right", "said"), [(0, True), (30, True), (36, True), (45, False), (300, False)]
)
def test_an_accuracy_that_chance_explains_is_said_to_be_so(total_of, right, said):
    labels = torch.arange(300) % 10
    logits = torch.zeros(300, 10)
    logits[torch.arange(300), (labels + (torch.arange(300) >= right)) % 10] = 1.0
    found = Accuracy().summarize(total_of(Accuracy(), logits, labels))
    assert [each.verdict for each in found.verdicts] == ["no better than chance"] * said
    for verdict in found.verdicts:
        assert verdict.reason.endswith("chance 0.1")


def test_few_images_say_nothing_about_chance(total_of):
    labels = torch.arange(29) % 10
    total = total_of(Accuracy(), torch.zeros(29, 10), labels)
    assert Accuracy().summarize(total).verdicts == ()


def test_a_model_of_one_class_has_no_chance_to_beat(total_of):
    labels = torch.zeros(40, dtype=torch.int64)
    found = Accuracy().summarize(total_of(Accuracy(), torch.zeros(40, 1), labels))
    assert (found.rows[0].value, found.verdicts) == (1.0, ())
