"""Linear probe and neighbours: against scikit-learn, against brute force, and their invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from illama_eval.transfer import knn as neighbours_module
from illama_eval.transfer.knn import TEMPERATURE, find_neighbours, vote
from illama_eval.transfer.linear import UNCHOSEN, default_grid, fit_probe, hold_out
from illama_eval.transfer.logistic_regression import Problem, fit_path

CLASSES = 4
GRID = (1e-4, 1e-2, 1.0, 100.0)


def draw(images: int = 240, channels: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % CLASSES
    centres = torch.randn(CLASSES, channels, generator=generator)
    noise = torch.randn(images, channels, generator=generator)
    scales = torch.logspace(-0.5, 0.5, channels)
    return (0.5 * centres[labels] + noise) * scales + 3, labels


def names(images: int) -> list[str]:
    return [f"train/{number:05d}" for number in range(images)]


def objective(weight: Tensor, intercept: Tensor, features: Tensor, labels: Tensor, c: float):
    loss = functional.cross_entropy(features.double() @ weight + intercept, labels)
    return loss + weight.square().sum() / (2 * c * len(labels))


def test_the_objective_is_at_most_that_of_scikit_learn():
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


def test_the_fit_is_that_of_a_tight_scikit_learn():
    features, labels = draw()
    for c in GRID[:3]:
        [fit] = fit_path(features, labels, CLASSES, [c])
        reference = LogisticRegression(C=c, max_iter=10_000, tol=1e-9)
        reference.fit(features.double().numpy(), labels.numpy())
        ours = fit.logits(features).softmax(1).numpy()
        assert np.abs(ours - reference.predict_proba(features.numpy())).max() < 5e-3


def test_the_gradient_is_that_of_autograd():
    features, labels = draw(60, 5)
    problem = Problem(features, labels, CLASSES)
    point = torch.randn(CLASSES, 6, dtype=torch.float64, requires_grad=True)
    logits = problem.rotated @ point.T
    value = functional.cross_entropy(logits, labels) + 0.05 * point[:, :-1].square().sum()
    value.backward()
    seen, gradient = problem.loss_and_gradient(point.detach(), 0.1)
    assert seen == pytest.approx(value.item(), rel=1e-12)
    assert torch.allclose(gradient, point.grad, rtol=1e-10, atol=1e-12)


def test_blocks_of_images_change_nothing(monkeypatch):
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


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), c=st.sampled_from([1e-3, 0.1, 10.0]))
def test_no_step_from_the_fit_leads_lower(seed, c):
    features, labels = draw(40, 3, seed)
    [fit] = fit_path(features, labels, CLASSES, [c])
    generator = torch.Generator().manual_seed(seed)
    for _ in range(4):
        step = 0.05 * torch.randn(4, CLASSES, dtype=torch.float64, generator=generator)
        moved = objective(fit.weight + step[:-1], fit.intercept + step[-1], features, labels, c)
        assert moved >= fit.objective - 1e-7


def test_the_order_of_the_images_does_not_matter():
    features, labels = draw()
    ids = names(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    first = fit_probe(features, labels, ids, CLASSES, GRID)
    second = fit_probe(features[order], labels[order], [ids[i] for i in order], CLASSES, GRID)
    assert set(first.held_out) == set(second.held_out)
    assert first.fit.inverse_penalty == second.fit.inverse_penalty
    assert first.fit.objective == pytest.approx(second.fit.objective, abs=1e-6)


def test_the_held_out_tenth_is_stratified_and_changes_with_the_seed():
    labels = np.repeat(np.arange(3), (50, 20, 2))
    ids = names(len(labels))
    held = hold_out(labels, ids, 0)
    assert np.bincount(labels[held]).tolist() == [5, 2, 1]
    assert (held != hold_out(labels, ids, 1)).any()
    assert not hold_out(np.arange(4), names(4), 0).any()


def test_the_best_c_is_chosen_on_held_out_images():
    features, labels = draw(400)
    found = fit_probe(features, labels, names(400), CLASSES, GRID)
    best = max(each.top1 for each in found.candidates)
    chosen = next(
        each for each in found.candidates if each.inverse_penalty == found.fit.inverse_penalty
    )
    assert chosen.top1 == best
    assert len(found.held_out) == 40


def test_without_an_image_to_spare_c_is_not_chosen():
    features, labels = draw(CLASSES)
    found = fit_probe(features, labels, names(CLASSES), CLASSES, GRID)
    assert found.fit.inverse_penalty == UNCHOSEN
    assert not found.candidates
    assert (found.fit.logits(features).argmax(1) == labels).all()


def test_the_default_grid_is_that_of_the_field():
    grid = default_grid()
    assert (len(grid), grid[0], grid[-1]) == (45, 1e-6, 1e5)
    assert default_grid(1) == (1e-6,)


def brute_force(queries: Tensor, training: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    cosine = (
        functional.normalize(queries.double(), dim=1)
        @ functional.normalize(training.double(), dim=1).T
    ).numpy()
    index = np.argsort(-cosine, axis=1)[:, :k]
    return np.take_along_axis(cosine, index, 1), index


def test_neighbours_are_those_of_brute_force(monkeypatch):
    training, labels = draw(300)
    queries, _ = draw(70, seed=5)
    cosine, index = brute_force(queries, training, 20)
    for block in (8192, 64, 7):
        monkeypatch.setattr(neighbours_module, "_TRAINED", block)
        monkeypatch.setattr(neighbours_module, "_QUERIES", 32)
        found = find_neighbours(queries, training, 20)
        assert np.allclose(found.cosine, cosine, atol=1e-6)
        assert (found.index.numpy() == index).mean() > 0.99  # ties and near ties aside
    votes = np.zeros((70, CLASSES))
    for row in range(70):
        for place, near in zip(index[row], cosine[row], strict=True):
            votes[row, labels[place]] += math.exp(near / TEMPERATURE)
    shares = votes / votes.sum(1, keepdims=True)
    assert np.allclose(vote(found, labels, CLASSES, 20).exp(), shares, atol=1e-4)


def test_a_query_is_never_its_own_neighbour():
    training, _ = draw(50)
    own = torch.arange(50)
    found = find_neighbours(training, training, 49, own)
    assert not (found.index == own[:, None]).any()
    assert found.cosine.isfinite().all()
    free = find_neighbours(training, training, 1)
    assert torch.equal(free.index[:, 0], own)


def test_votes_are_known_on_a_hand_made_case():
    training = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = find_neighbours(torch.tensor([[2.0, 0.0]]), training, 3)
    assert found.index.tolist() == [[0, 2, 1]]
    shares = vote(found, torch.tensor([0, 1, 1]), 3, 2, temperature=1.0).exp()
    right = math.exp(1) / (math.exp(1) + math.exp(math.sqrt(0.5)))
    assert shares[0].tolist() == pytest.approx([right, 1 - right, 0.0], abs=1e-6)
