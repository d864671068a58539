from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from illama.config import Config
from illama.model import Model
from illama.transforms import evaluation_transform
from illama_eval.quantize.activations import observe_inputs
from illama_eval.quantize.schemes import SCHEMES
from illama_eval.quantize.smoothquant import smooth, unfolded
from illama_eval.subjects.checkpoint import ModelSubject

SIDE = 32


def make_subject(**changes: object) -> ModelSubject:
    torch.manual_seed(0)
    config = Config(image_size=SIDE, patch_size=8, width=64, depth=3, heads=2, classes=16)
    model = Model(Config.from_dict({**config.to_dict(), **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
            elif "norm" in name and name.endswith("weight"):
                parameter.add_(torch.rand_like(parameter) * 4)
    return ModelSubject(
        name="tested",
        model=model,
        transform=evaluation_transform(SIDE, "model"),
        provenance={"weights_sha256": "0" * 64, "file": "tested.pth"},
    )


@pytest.fixture(scope="module")
def subject() -> ModelSubject:
    return make_subject()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(16, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


ON_CPU = [name for name in SCHEMES if name != "fp8"]


@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_smoothing_changes_no_logit(images, mlp, norm):
    subject = make_subject(mlp=mlp, norm=norm)
    model = copy.deepcopy(subject.model)
    names = [n for n, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    seen = observe_inputs(model, images, names, 0.0)
    folded = smooth(model, seen, 0.5)
    again = observe_inputs(model, images, names, 0.0)
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
