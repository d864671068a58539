"""Linear probe and neighbours: against scikit-learn, against brute force, and their invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from illama_eval.transfer.linear import UNCHOSEN, default_grid, fit_probe, hold_out

CLASSES = 4


GRID = (1e-4, 1e-2, 1.0, 100.0)


def names(images: int) -> list[str]:
    return [f"train/{number:05d}" for number in range(images)]


def test_the_order_of_the_images_does_not_matter(draw):
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


def test_the_best_c_is_chosen_on_held_out_images(draw):
    features, labels = draw(400)
    found = fit_probe(features, labels, names(400), CLASSES, GRID)
    best = max(each.top1 for each in found.candidates)
    chosen = next(
        each for each in found.candidates if each.inverse_penalty == found.fit.inverse_penalty
    )
    assert chosen.top1 == best
    assert len(found.held_out) == 40


def test_without_an_image_to_spare_c_is_not_chosen(draw):
    features, labels = draw(CLASSES)
    found = fit_probe(features, labels, names(CLASSES), CLASSES, GRID)
    assert found.fit.inverse_penalty == UNCHOSEN
    assert not found.candidates
    assert (found.fit.logits(features).argmax(1) == labels).all()


def test_the_default_grid_is_that_of_the_field():
    grid = default_grid()
    assert (len(grid), grid[0], grid[-1]) == (45, 1e-6, 1e5)
    assert default_grid(1) == (1e-6,)
