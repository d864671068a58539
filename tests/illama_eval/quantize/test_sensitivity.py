from __future__ import annotations

import pytest
import torch

from illama.checkpoint.torchao_tensors import is_quantized
from illama.config import Config
from illama.model import Model
from illama.transforms import evaluation_transform
from illama_eval.quantize.ptq import quantize
from illama_eval.quantize.schemes import SCHEMES, QuantizationConfig
from illama_eval.quantize.sensitivity import find_effects
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


@pytest.mark.parametrize("scheme", ["w2", "w8a8-dynamic", "w4a4"])
def test_a_swap_of_one_layer_is_exact_although_most_of_the_model_is_not_run_again(
    subject, images, scheme
):
    choices = QuantizationConfig(scheme=scheme, exclude=())
    effects = find_effects(subject, images, choices)
    assert len(effects) == 3 * 4 + 1
    assert not any(is_quantized(weight) for weight in subject.model.parameters())
    for effect in (effects[0], effects[6], effects[-1]):
        layers = dict.fromkeys(effect.group.layers, scheme)
        made = quantize(subject, QuantizationConfig(layers=layers, exclude=()))
        with torch.no_grad():
            first = subject.model(images).double().log_softmax(-1)
            second = made.model(images).double().log_softmax(-1)
        divergence = (first.exp() * (first - second)).sum(-1)
        assert torch.allclose(effect.divergence, divergence, atol=1e-6)
