"""One pass over maps: its sums are those of plain float64 formulas, strip by strip or whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from illama_eval.functional import map_pass
from illama_eval.functional.map_pass import column_moments, strips, sum_maps

TOKENS = 70
LOWER = torch.ones(TOKENS, TOKENS).tril()


def random_maps(seed: int, factor: Tensor = LOWER) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, TOKENS, TOKENS, generator=generator).softmax(-1) * factor


@pytest.fixture(params=[1, 2**15, 2**18], ids=["one row", "some maps", "all"])
def strip_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(map_pass.STRIP_BYTES, "cpu", request.param)
    return int(request.param)


@pytest.mark.parametrize("causal", [False, True])
def test_strips_read_every_number_that_can_differ_from_zero_once(
    strip_bytes: int, causal: bool
) -> None:
    del strip_bytes
    read = torch.zeros(5, TOKENS, TOKENS)
    for strip in strips(read.shape, "cpu", causal=causal):
        read[strip.maps, strip.rows, strip.keys] += 1
    assert (read <= 1).all()
    assert (read == 1)[:, LOWER.bool() if causal else slice(None)].all()
    assert read.mean() < 0.75 or not causal


@pytest.mark.parametrize("causal", [False, True])
def test_the_sums_are_those_of_plain_formulas(strip_bytes: int, causal: bool) -> None:
    del strip_bytes
    maps = random_maps(0)
    exact = maps.flatten(0, 1).double()
    sums = sum_maps(maps, causal=causal)
    assert torch.allclose(sums.mass, exact.sum(-1), rtol=1e-13)
    assert torch.allclose(sums.received, exact.sum(-2), rtol=1e-13)
    assert torch.allclose(sums.log_mass, -torch.special.entr(exact).sum(-1), rtol=1e-13)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_moments_are_relative_to_the_last_row(strip_bytes: int, scaled: bool) -> None:
    del strip_bytes
    used, previous = random_maps(1), random_maps(2)
    scale = LOWER.double() * torch.arange(1, TOKENS + 1)[:, None] if scaled else None
    found = column_moments(used, previous, LOWER.bool(), scale, causal=True)
    left, right = (
        (maps.double() * (LOWER if scale is None else scale)).flatten(0, 1)
        for maps in (used, previous)
    )
    left, right = ((maps - maps[:, -1:]) * LOWER for maps in (left, right))
    for one, plain in zip(found.sums, (left, right), strict=True):
        assert torch.allclose(one, plain.sum(-2), rtol=1e-11, atol=1e-13)
    for one, plain in zip(found.squares, (left, right), strict=True):
        assert torch.allclose(one, plain.square().sum(-2), rtol=1e-11, atol=1e-13)
    assert torch.allclose(found.products, (left * right).sum(-2), rtol=1e-11, atol=1e-13)
    assert torch.equal(used, random_maps(1)), "the maps stay as they are"


def test_maps_in_double_precision_stay_as_they_are() -> None:
    used, previous = random_maps(1).double(), random_maps(2).double()
    column_moments(used, previous, LOWER.bool(), LOWER.double())
    assert torch.equal(used, random_maps(1).double())


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(map_pass.STRIP_BYTES, "cpu", 2**15)
    maps, before = random_maps(3), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        several = sum_maps(maps)
    finally:
        torch.set_num_threads(before)
    one = sum_maps(maps)
    assert torch.equal(several.mass, one.mass)
    assert torch.equal(several.received, one.received)


def test_sums_keep_no_graph_of_maps_with_gradients() -> None:
    maps = random_maps(4).requires_grad_()
    assert not sum_maps(maps).mass.requires_grad
    assert not column_moments(maps, maps, LOWER.bool(), None).products.requires_grad
