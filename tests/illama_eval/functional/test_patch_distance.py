"""Patch distances: known answers on small squares."""

from __future__ import annotations

import math

import pytest
import torch

from illama_eval.functional.patch_distance import distances, mean_distance, uniform_attention


def test_distances_on_a_square_of_four():
    apart = distances(4)
    root = math.sqrt(2)
    assert apart.tolist() == [[0, 1, 1, root], [1, 0, root, 1], [1, root, 0, 1], [root, 1, 1, 0]]


def test_patches_that_are_no_square_have_no_distance():
    assert distances(6).isnan().all()


def test_rows_count_alike_whatever_their_sum_and_empty_ones_not_at_all():
    weights = torch.zeros(4, 4, dtype=torch.float64)
    weights[0, 1], weights[1, 1], weights[1, 0] = 0.2, 3, 3
    assert float(mean_distance(weights, distances(4))) == pytest.approx((1 + 0.5) / 2)


def test_equal_scores_under_each_kind_of_mask():
    open_ = torch.ones(4, 4).tril().bool()
    soft = 0.5 + 0.5 * open_.double()
    assert uniform_attention(open_, None).equal(open_.double())
    assert uniform_attention(torch.ones_like(open_), soft).equal(soft)
    apart = distances(4)
    by_row = [0, 0.5, (1 + math.sqrt(2)) / 3, (2 + math.sqrt(2)) / 4]
    assert float(mean_distance(open_.double(), apart)) == pytest.approx(sum(by_row) / 4)
