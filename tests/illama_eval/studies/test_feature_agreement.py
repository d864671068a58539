"""Agreement of features by known answers."""

from __future__ import annotations

import math

import pytest
import torch

from illama.observation import OutputSeen
from illama_eval.studies.feature_agreement import FeatureAgreement
from illama_eval.study import accumulate

LABELS = torch.zeros(4, dtype=torch.int64)


def measure(make_batch, features, first):
    piece = OutputSeen(
        features=features, reference=OutputSeen(features=first), batch=make_batch(LABELS)
    )
    total = {}
    accumulate(total, FeatureAgreement().measure(piece))
    return {row.metric: row for row in FeatureAgreement().summarize(total).rows}


def test_equal_features_have_no_noise(make_batch):
    features = torch.randn(4, 3)
    found = measure(make_batch, features, features)
    assert found["feature_cosine"].value == pytest.approx(1)
    assert found["feature_sqnr"].value is None
    assert "equal" in found["feature_sqnr"].reason


def test_known_features_have_their_cosine_and_noise(make_batch):
    first = torch.tensor([[1.0, 0.0]] * 4)
    found = measure(make_batch, torch.tensor([[1.0, 1.0]] * 2 + [[1.0, 0.0]] * 2), first)
    assert found["feature_cosine"].value == pytest.approx((math.sqrt(0.5) + 1) / 2)
    assert found["feature_sqnr"].value == pytest.approx(10 * math.log10(4 / 2))
    assert found["feature_cosine"].low is None
    assert "too few images" in found["feature_cosine"].reason


def test_the_first_model_has_no_rows_and_other_widths_are_refused(make_batch):
    alone = OutputSeen(features=torch.ones(4, 3), batch=make_batch(LABELS))
    study, total = FeatureAgreement(), {}
    accumulate(total, study.measure(alone))
    assert study.summarize(total).rows == ()
    with pytest.raises(ValueError, match="4 channels against 3"):
        measure(make_batch, torch.ones(4, 4), torch.ones(4, 3))
    with pytest.raises(ValueError, match="no image was seen"):
        study.summarize({})
