from __future__ import annotations

import pytest
import torch

from illama_eval.quantize.activations import Inputs, choose_range, observe_inputs
from illama_eval.quantize.schemes import SCHEMES
from illama_eval.subjects.subject import SubjectError

SIDE = 32


ON_CPU = [name for name in SCHEMES if name != "fp8"]


def test_static_ranges_hold_zero_and_pay_for_outliers():
    sample = torch.cat((torch.rand(1000), torch.tensor([50.0])))
    inputs = Inputs(largest=torch.ones(1), low=0.0, high=50.0, sample=[sample])
    whole, at_zero = choose_range(inputs, "minmax", asymmetric=True)
    assert at_zero == -128
    assert whole == pytest.approx(50 / 255, rel=0.01)
    assert choose_range(inputs, "percentile", asymmetric=True)[0] < whole
    calm = Inputs(largest=torch.ones(1), low=-1.0, high=4.0, sample=[torch.randn(4000)])
    assert (
        choose_range(calm, "mse", asymmetric=False)[0]
        <= choose_range(calm, "minmax", asymmetric=False)[0]
    )


def test_the_percentile_of_a_large_sample_is_found():
    many = torch.linspace(-1, 1, 2**24 + 2)
    inputs = Inputs(largest=torch.ones(1), low=-1.0, high=1.0, sample=[many])
    scale, zero = choose_range(inputs, "percentile", asymmetric=False)
    assert (scale, zero) == (pytest.approx(0.9999 / 127.5, rel=0.004), 0)  # a bf16 number


def test_inputs_that_are_not_finite_are_refused(subject):
    broken = torch.full((8, 3, SIDE, SIDE), torch.nan)
    with pytest.raises(SubjectError, match="not finite"):
        observe_inputs(subject, broken, ["blocks.0.attention.qkv"])
