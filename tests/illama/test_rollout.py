"""Rollout: the values of a computation by hand, for whole rows and rows that lost mass."""

from __future__ import annotations

import pytest
import torch

from illama.rollout import extend_rollout


def maps(*heads):
    return torch.tensor([heads])


def test_two_blocks_by_hand():
    """(A + I) / 2 is [[1, 0], [.25, .75]], then [[1, 0], [.4, .6]]: then their product."""
    first = extend_rollout(None, maps([[1.0, 0.0], [0.5, 0.5]]))
    assert first.tolist() == [[[1.0, 0.0], [0.25, 0.75]]]
    second = extend_rollout(first, maps([[1.0, 0.0], [0.8, 0.2]]))
    assert torch.allclose(second, torch.tensor([[[1.0, 0.0], [0.4 + 0.6 * 0.25, 0.6 * 0.75]]]))


def test_rows_that_lost_mass_are_divided_by_their_sum_after_the_mean_over_heads():
    """Heads [.4, .2] and [0, .2] of the second row have the mean [.2, .2], that is a half each."""
    used = maps([[0.3, 0.0], [0.4, 0.2]], [[0.1, 0.0], [0.0, 0.2]])
    assert torch.allclose(extend_rollout(None, used), torch.tensor([[[1.0, 0.0], [0.25, 0.75]]]))


def test_a_row_without_attention_passes_its_own_token_on():
    assert extend_rollout(None, maps([[0.0, 0.0], [0.0, 0.0]])).tolist() == [[[1, 0], [0, 1]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_sum_to_one_and_causal_maps_stay_causal(dtype):
    torch.manual_seed(0)
    rollout = None
    for _ in range(5):
        used = (torch.randn(2, 3, 7, 7).softmax(-1) * torch.ones(7, 7).tril()).to(dtype)
        rollout = extend_rollout(rollout, used)
    assert rollout.dtype == torch.float32
    assert torch.allclose(rollout.sum(-1), torch.ones(2, 7), atol=1e-6)
    assert not rollout.triu(1).any()
