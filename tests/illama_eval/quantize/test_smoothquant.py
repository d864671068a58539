from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from illama_eval.quantize.activations import observe_inputs
from illama_eval.quantize.schemes import SCHEMES
from illama_eval.quantize.smoothquant import smooth, unfolded

SIDE = 32


ON_CPU = [name for name in SCHEMES if name != "fp8"]


@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_smoothing_changes_no_logit(make_subject, subject, images, mlp, norm):
    subject = make_subject(mlp=mlp, norm=norm)
    model = copy.deepcopy(subject.model)
    names = [n for n, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    seen = observe_inputs(replace(subject, model=model), images, names)
    folded = smooth(model, seen, 0.5)
    again = observe_inputs(replace(subject, model=model), images, names)
    with torch.no_grad():
        exact, smoothed = subject.model(images), model(images)
    assert torch.allclose(exact, smoothed, atol=1e-3 * exact.abs().max().item())
    assert len(folded) == 3 * (4 if mlp == "swiglu" else 3)
    assert unfolded(model, names) == [n for n in names if mlp == "gelu" and n.endswith("down")]
    for name in folded:
        spread = [
            inputs[name].largest.max() / inputs[name].largest.mean() for inputs in (seen, again)
        ]
        assert spread[1] <= spread[0] * 1.01
