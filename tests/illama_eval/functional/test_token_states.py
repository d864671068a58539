from __future__ import annotations

import math

import pytest
import torch

from illama_eval.functional.token_states import (
    FOLDS,
    false_alarms,
    massive_activations,
    outlying_norms,
    residual,
)


def test_a_norm_far_beyond_the_tail_is_outlying_and_others_are_not():
    norms = torch.cat((torch.linspace(1, 2, 99), torch.tensor([50.0]))).double()[None]
    found = outlying_norms(norms, ratio=4, lengths=6)
    assert found[0, -1] == 1
    assert found.sum() == 1
    assert outlying_norms(torch.full((1, 5), 2.0).double(), 4, 6).sum() == 0


def test_images_that_are_not_finite_have_no_outliers_to_count():
    norms = torch.tensor([[1.0, math.inf], [1.0, 1.0]]).double()
    assert outlying_norms(norms, 4, 6).isnan().tolist() == [[True, True], [False, False]]


def test_a_pareto_tail_passes_as_many_norms_as_stated():
    lengths = 3.0
    random = torch.Generator().manual_seed(0)
    tail = torch.empty(2_000, 500, dtype=torch.float64).exponential_(generator=random).exp()
    found = outlying_norms(tail, ratio=1, lengths=lengths).mean()
    assert false_alarms(lengths) == pytest.approx(0.5 * math.exp(-3 * FOLDS))
    assert float(found) == pytest.approx(false_alarms(lengths), rel=0.1)
    assert false_alarms(6.5) == pytest.approx(1.43e-5, rel=0.01)


def test_the_largest_activation_is_found_with_its_place():
    states = torch.ones(2, 3, 4)
    states[1, 2, 1] = -40
    largest, median, place = massive_activations(states)
    assert largest.tolist() == [1, 40]
    assert median.tolist() == [1, 1]
    assert place[1].item() == 2 * 4 + 1


@pytest.mark.parametrize("tokens", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 4, 7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_median_is_the_lower_of_two_and_unknown_where_a_value_is(tokens, channels, dtype):
    random = torch.Generator().manual_seed(0)
    states = torch.randn(3, tokens, channels, generator=random).to(dtype)
    states[2, -1, -1] = math.nan
    _, median, _ = massive_activations(states)
    assert median.dtype == torch.float64
    sizes = states.abs().flatten(1).sort(-1).values
    assert median[:2].tolist() == sizes[:2, (tokens * channels - 1) // 2].tolist()
    assert median[2].isnan()


def test_tokens_that_are_alike_leave_no_residual():
    alike = torch.randn(1, 1, 8).expand(1, 5, 8).double()
    assert residual(alike).item() == pytest.approx(0, abs=1e-12)
    apart = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]]).double()
    assert residual(apart).item() == pytest.approx(1)
