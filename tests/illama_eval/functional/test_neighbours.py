from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from illama_eval.functional import neighbours as neighbours_module
from illama_eval.functional.neighbours import TEMPERATURE, find_neighbours, vote

CLASSES = 4


def draw(images: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features [image, channel] of unlike scales, and labels."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, 12, generator=generator)
    return features * torch.logspace(-0.5, 0.5, 12) + 1, torch.arange(images) % CLASSES


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
