"""Agreement by known answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from illama.observation import LayerSeen, OutputSeen
from illama_eval.studies.agreement import Agreement
from illama_eval.study import accumulate

LABELS = torch.zeros(4, dtype=torch.int64)


def measure(make_batch, logits, first, tokens=None, first_tokens=None):
    batch = make_batch(LABELS)
    total = {}
    if tokens is not None:
        shape = {
            "index": 1,
            "open": torch.ones(1, 1, dtype=torch.bool),
            "class_index": 0,
            "image_tokens": slice(1, None),
        }
        reference = LayerSeen(**shape, tokens=first_tokens)
        accumulate(
            total,
            Agreement().measure(
                LayerSeen(**shape, tokens=tokens, reference=reference, batch=batch)
            ),
        )
    piece = OutputSeen(logits=logits, reference=OutputSeen(logits=first), batch=batch)
    accumulate(total, Agreement().measure(piece))
    rows = Agreement().summarize(total).rows
    return {(row.metric, row.at.get("layer")): row for row in rows}


def test_equal_models_agree_wholly_and_have_no_noise(make_batch):
    logits = torch.randn(4, 3)
    found = measure(make_batch, logits, logits)
    assert found["flips", None].value == 0
    assert found["kl", None].value == pytest.approx(0)
    assert found["logit_cosine", None].value == pytest.approx(1)
    assert found["logit_sqnr", None].value is None
    assert "equal" in found["logit_sqnr", None].reason


def test_known_distributions_have_their_divergence(make_batch):
    first = torch.tensor([[0.9, 0.1]] * 4).log()
    second = torch.tensor([[0.5, 0.5]] * 2 + [[0.1, 0.9]] * 2).log()
    found = measure(make_batch, second, first)
    near = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    far = 0.9 * math.log(9) + 0.1 * math.log(1 / 9)
    assert found["kl", None].value == pytest.approx((near + far) / 2, rel=1e-6)
    assert found["flips", None].value == 0.5


def test_a_tenth_of_noise_is_twenty_decibels(make_batch):
    tokens = torch.randn(4, 5, 6)
    noise = torch.ones_like(tokens) * tokens.square().mean().sqrt() / 10
    found = measure(make_batch, torch.randn(4, 3), torch.randn(4, 3), tokens + noise, tokens)
    assert found["sqnr", 1].value == pytest.approx(20, abs=1e-4)


def test_the_first_subject_has_nothing_to_agree_with(make_batch):
    piece = OutputSeen(logits=torch.randn(4, 3), batch=make_batch(LABELS))
    assert Agreement().summarize(Agreement().measure(piece)).rows == ()


def test_other_classes_cannot_be_compared(make_batch):
    piece = OutputSeen(logits=torch.randn(4, 3), batch=make_batch(LABELS))
    other = replace(piece, reference=OutputSeen(logits=torch.randn(4, 5)))
    with pytest.raises(ValueError, match="3 classes against 5"):
        Agreement().measure(other)
