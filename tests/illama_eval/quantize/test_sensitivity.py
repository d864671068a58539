from __future__ import annotations

import pytest
import torch

from illama.checkpoint.torchao_tensors import is_quantized
from illama_eval.quantize.ptq import quantize
from illama_eval.quantize.schemes import SCHEMES, QuantizationConfig
from illama_eval.quantize.sensitivity import Effect, Group, effect_rows, find_effects

SIDE = 32


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


def test_intervals_of_effects_are_by_groups_where_images_come_in_groups():
    divergence = torch.arange(10.0).repeat_interleave(10)  # alike within a group
    group = Group(at={"kind": "head"}, layers=("head",), block=1)
    effect = Effect(group=group, scheme="w4", divergence=divergence, flipped=divergence > 4)
    ids = [f"image {number}" for number in range(100)]
    videos = {"groups": [f"video {number // 10}" for number in range(100)]}
    (alone, _), (grouped, _) = (list(effect_rows([effect], ids, each)) for each in (None, videos))
    assert alone.value == grouped.value == 4.5
    wider = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert wider > 1.8  # the square root of 10 images a group, as far as 0 does not end it
