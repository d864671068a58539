"""What logits say, image by image, against independent formulas and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from illama.observation import OutputSeen
from illama_eval.functional.predictions import LARGEST_NLL, logits_and_labels, predict

logits_and_truth = st.integers(1, 6).flatmap(
    lambda classes: st.tuples(
        st.lists(st.integers(-3, 3), min_size=classes, max_size=classes),
        st.integers(0, classes - 1),
    )
)


@given(logits_and_truth)
def test_rank_zero_is_a_right_prediction_and_equals_go_to_the_lowest_index(case):
    logits, truth = case
    seen = predict(torch.tensor([logits]).float(), torch.tensor([truth]))
    order = sorted(range(len(logits)), key=lambda k: (-logits[k], k))
    assert seen.prediction.item() == order[0]
    assert seen.rank.item() == order.index(truth)


@given(logits_and_truth)
def test_losses_follow_their_definitions(case):
    logits, truth = case
    seen = predict(torch.tensor([logits]).float(), torch.tensor([truth]))
    total = sum(math.exp(z) for z in logits)
    shares = [math.exp(z) / total for z in logits]
    squares = sum((share - (k == truth)) ** 2 for k, share in enumerate(shares))
    assert seen.probabilities[0].tolist() == pytest.approx(shares)
    assert seen.confidence.item() == pytest.approx(max(shares))
    assert seen.nll.item() == pytest.approx(-math.log(shares[truth]), abs=1e-12)
    assert seen.brier.item() == pytest.approx(squares, abs=1e-12)


def test_the_log_loss_stops_at_a_probability_of_1e_12():
    seen = predict(
        torch.tensor([[0.0, 30.0], [0.0, 25.0], [-math.inf, 0.0]]), torch.zeros(3).long()
    )
    assert seen.nll[0] == LARGEST_NLL == -math.log(1e-12)
    assert seen.nll[1] == pytest.approx(25.0)
    assert seen.nll[2] == LARGEST_NLL
    assert seen.usable.all()


def test_a_logit_of_minus_infinity_is_a_probability_of_zero():
    seen = predict(torch.tensor([[0.0, -math.inf, 0.0]]), torch.tensor([2]))
    assert seen.probabilities.tolist() == [[0.5, 0.0, 0.5]]
    assert seen.rank.item() == 1
    assert seen.brier.item() == 0.5


@pytest.mark.parametrize(
    "row",
    [
        [math.nan, 0.0, 1.0],
        [0.0, math.inf, 1.0],
        [math.nan] * 3,
        [-math.inf] * 3,
        [math.inf, -math.inf, 0.0],
    ],
)
@pytest.mark.parametrize("truth", [0, 1, 2])
def test_logits_without_a_distribution_are_wrong_in_every_respect(row, truth):
    logits = torch.tensor([row, [2.0, 1.0, 0.0]])
    seen = predict(logits, torch.tensor([truth, 0]))
    assert seen.usable.tolist() == [False, True]
    assert seen.prediction.tolist() == [-1, 0]
    assert seen.rank.tolist() == [3, 0]
    assert seen.confidence[0] == 0
    assert seen.nll[0] == LARGEST_NLL
    assert seen.brier[0] == 2


def test_the_softmax_does_not_saturate_in_float32():
    seen = predict(torch.tensor([[20.0, 0.0, 0.0]]), torch.tensor([0]))
    assert seen.confidence.dtype == torch.float64
    assert 0 < 1 - seen.confidence.item() < 1e-8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_precision_of_logits_is_taken_as_it_is(dtype):
    logits = torch.tensor([[1.0, 0.5, -2.0]], dtype=dtype)
    exact = predict(logits.double(), torch.tensor([1]))
    assert torch.equal(predict(logits, torch.tensor([1])).probabilities, exact.probabilities)


def test_a_source_without_labels_is_told_in_words(make_batch):
    from dataclasses import replace

    batch = replace(make_batch(torch.zeros(2).long()), labels=None)
    with pytest.raises(ValueError, match="no labels"):
        logits_and_labels(OutputSeen(logits=torch.zeros(2, 3), batch=batch))


def test_of_several_true_classes_the_likeliest_counts(make_batch):
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 2.0], [0.0, 1.0, 2.0, 3.0]])
    batch = replace(
        make_batch(torch.tensor([2, 3, 0])),
        further_labels=torch.tensor([[1, 0], [2, -1], [-1, -1]]),
    )
    _, truth = logits_and_labels(OutputSeen(logits=logits, batch=batch))
    assert truth.tolist() == [0, 2, 0]
    assert (predict(logits, truth).rank == 0).tolist() == [True, True, False]


def test_reassessed_accuracy_is_the_share_of_answers_among_the_true_classes(make_batch):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 6, generator=random)
    classes = torch.stack([torch.randperm(6, generator=random)[:3] for _ in range(200)])
    batch = replace(make_batch(classes[:, 0]), further_labels=classes[:, 1:])
    _, truth = logits_and_labels(OutputSeen(logits=logits, batch=batch))
    expected = (logits.argmax(1, keepdim=True) == classes).any(1)
    assert ((predict(logits, truth).rank == 0) == expected).all()
