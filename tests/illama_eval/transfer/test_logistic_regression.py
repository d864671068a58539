from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from illama_eval.transfer.logistic_regression import Problem, fit_path

CLASSES = 4


GRID = (1e-4, 1e-2, 1.0, 100.0)


def objective(weight: Tensor, intercept: Tensor, features: Tensor, labels: Tensor, c: float):
    loss = functional.cross_entropy(features.double() @ weight + intercept, labels)
    return loss + weight.square().sum() / (2 * c * len(labels))


def test_the_objective_is_at_most_that_of_scikit_learn(draw):
    features, labels = draw()
    fits = fit_path(features, labels, CLASSES, GRID)
    for c, fit in zip(GRID, fits, strict=True):
        reference = LogisticRegression(C=c, max_iter=10_000).fit(features.numpy(), labels.numpy())
        weight, intercept = (
            torch.from_numpy(np.asarray(each, dtype=np.float64))
            for each in (reference.coef_.T, reference.intercept_)
        )
        theirs = float(objective(weight, intercept, features, labels, c))
        ours = float(objective(fit.weight, fit.intercept, features, labels, c))
        assert fit.converged
        assert ours == pytest.approx(fit.objective, rel=1e-12)
        assert ours <= theirs * (1 + 1e-6)


def test_the_fit_is_that_of_a_tight_scikit_learn(draw):
    features, labels = draw()
    for c in GRID[:3]:
        [fit] = fit_path(features, labels, CLASSES, [c])
        reference = LogisticRegression(C=c, max_iter=10_000, tol=1e-9)
        reference.fit(features.double().numpy(), labels.numpy())
        ours = fit.logits(features).softmax(1).numpy()
        assert np.abs(ours - reference.predict_proba(features.numpy())).max() < 5e-3


def test_the_gradient_is_that_of_autograd(draw):
    features, labels = draw(60, 5)
    problem = Problem(features, labels, CLASSES)
    point = torch.randn(CLASSES, 6, dtype=torch.float64, requires_grad=True)
    logits = problem.rotated @ point.T
    value = functional.cross_entropy(logits, labels) + 0.05 * point[:, :-1].square().sum()
    value.backward()
    seen, gradient = problem.loss_and_gradient(point.detach(), 0.1)
    assert seen == pytest.approx(value.item(), rel=1e-12)
    assert torch.allclose(gradient, point.grad, rtol=1e-10, atol=1e-12)


def test_blocks_of_images_change_nothing(draw, monkeypatch):
    features, labels = draw(97)
    whole = Problem(features, labels, CLASSES)
    point = torch.randn(CLASSES, features.shape[1] + 1, dtype=torch.float64)
    seen = whole.loss_and_gradient(point, 0.1), whole.curvature(point, 0.1)
    monkeypatch.setattr(
        "illama_eval.transfer.logistic_regression._AT_A_TIME", 7 * (features.shape[1] + CLASSES)
    )
    again = whole.loss_and_gradient(point, 0.1), whole.curvature(point, 0.1)
    assert seen[0][0] == pytest.approx(again[0][0], rel=1e-13)
    assert torch.allclose(seen[0][1], again[0][1])
    assert torch.allclose(seen[1], again[1])


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), c=st.sampled_from([1e-3, 0.1, 10.0]))
def test_no_step_from_the_fit_leads_lower(draw, seed, c):
    features, labels = draw(40, 3, seed)
    [fit] = fit_path(features, labels, CLASSES, [c])
    generator = torch.Generator().manual_seed(seed)
    for _ in range(4):
        step = 0.05 * torch.randn(4, CLASSES, dtype=torch.float64, generator=generator)
        moved = objective(fit.weight + step[:-1], fit.intercept + step[-1], features, labels, c)
        assert moved >= fit.objective - 1e-7
