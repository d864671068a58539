from __future__ import annotations

import numpy as np
import pytest
import torch

from illama_eval.functional import spectrum
from illama_eval.functional.spectrum import index_of_share, singular_values

TOKENS = 197


def uniform(tokens=TOKENS):
    return torch.full((tokens, tokens), 1 / tokens, dtype=torch.float64)


def local(tokens=TOKENS, width=8.0):
    place = torch.arange(tokens, dtype=torch.float64)
    weights = (-(place[:, None] - place).abs() / width).exp()
    return weights / weights.sum(-1, keepdim=True)


def random_maps(*shape, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator)).softmax(-1)


def low_rank(tokens=TOKENS, inner=16):
    generator = torch.Generator().manual_seed(1)
    left, right = torch.randn(2, tokens, inner, generator=generator, dtype=torch.float64)
    return (left @ right.T / inner**0.5).softmax(-1)


SAMPLES = {
    "uniform": uniform(),
    "local": local(),
    "low rank": low_rank(),
    "noise": random_maps(TOKENS, TOKENS),
    "sharp": random_maps(TOKENS, TOKENS, scale=4.0),
    "identity": torch.eye(TOKENS, dtype=torch.float64),
    "two rows": uniform().index_fill(0, torch.arange(2, TOKENS), 0.0),
}


@pytest.mark.parametrize("masked", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("threshold", [0.3, 0.8, 0.95, 1.0])
def test_the_index_is_that_of_an_svd(masked, threshold):
    maps = torch.stack(
        [m.tril() if masked else m for m in map(torch.Tensor.double, SAMPLES.values())]
    )
    sigma = torch.from_numpy(np.linalg.svd(maps.numpy(), compute_uv=False))
    exact = ((sigma.cumsum(-1) / sigma.cumsum(-1)[:, -1:]) < threshold).sum(-1) + 1
    assert index_of_share(maps, threshold).tolist() == exact.tolist()


def decaying(ratio, tokens=64):
    """A matrix with singular values 1, ratio, ratio^2, ..., in random directions."""
    generator = torch.Generator().manual_seed(2)
    left, right = torch.randn(2, tokens, tokens, generator=generator, dtype=torch.float64)
    sigma = ratio ** torch.arange(tokens, dtype=torch.float64)
    return torch.linalg.qr(left).Q * sigma @ torch.linalg.qr(right).Q


@pytest.mark.parametrize("gap", [1e-8, 1e-11, 1e-14])
@pytest.mark.parametrize("side", [-1, 1], ids=["below", "above"])
@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.6])
def test_a_threshold_close_to_a_share_is_settled_by_an_svd(gap, side, ratio):
    map_ = decaying(ratio)
    running = torch.linalg.svdvals(map_).cumsum(0)
    threshold = float((running / running[-1])[3]) + side * gap
    assert index_of_share(map_[None], threshold).item() == (4 if side < 0 else 5)


def test_threads_change_neither_the_indices_nor_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(spectrum, "BLOCK_BYTES", 1)
    maps = random_maps(5, 20, 20).double()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        several = singular_values(maps)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert torch.equal(several, singular_values(maps))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("tokens", [5, 65, 128, 197, 257, 401, 500, 577, 1025])
def test_a_block_has_more_values_than_numpy_keeps_the_lock_for(tokens):
    maps = torch.empty(1, 1, 1).expand(40, tokens, tokens)
    block = spectrum._maps_in_a_block(maps)
    assert block * tokens > spectrum.LOCKED
    fits = 8 * block * tokens**2 <= spectrum.BLOCK_BYTES
    assert fits or (block - 1) * tokens <= spectrum.LOCKED, "no larger than either needs"
