"""The product split at the diagonal: the released mask's values and gradients, exactly.

FlexAttention's own formulas run on a CPU once its refusals are lifted; its kernels are not tested.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention

from illama.attention_paths import HeadShape, largest_error
from illama.layers import attend
from illama.masking import MultiplicativeMask
from illama.split_attention import SplitMasks, split_attention

pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)


@pytest.mark.parametrize("tokens", [33, pytest.param(197, marks=pytest.mark.slow)])
@pytest.mark.parametrize("soft_mask", [0.0, 0.5])
def test_values_and_gradients_are_those_of_the_explicit_product(
    tokens: int, soft_mask: float
) -> None:
    masks = SplitMasks.of(tokens, CPU)

    def split(query: Tensor, key: Tensor, value: Tensor, soft: float) -> Tensor:
        return split_attention(query, key, value, soft, masks)

    shape = HeadShape(tokens, 32, torch.float64, CPU)
    assert largest_error(split, shape, soft_mask) < 1e-13


@pytest.mark.parametrize("soft_mask", [0.0, 0.5, 1.0])
def test_a_mask_splits_only_what_is_compiled(
    monkeypatch: pytest.MonkeyPatch, soft_mask: float
) -> None:
    masking, calls = MultiplicativeMask(33), []
    query, key, value = torch.randn(3, 1, 2, 33, 16, generator=torch.Generator().manual_seed(0))

    def noted(*given: Tensor | float | SplitMasks) -> Tensor:
        calls.append(soft_mask)
        return split_attention(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("illama.masking.split_attention", noted)
    masking.split_when_compiled()
    explicit = attend(query, key, value, masking, soft_mask)
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda now=compiling: now)
        fused = masking.fuse(query, key, value, soft_mask)
        assert (fused - explicit).abs().max() < 1e-6
    assert len(calls) == (soft_mask < 1)
