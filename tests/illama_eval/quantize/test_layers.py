"""Layers of any network: the head by any name, and those that a quantized weight would not fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from illama.checkpoint.torchao_tensors import is_quantized
from illama_eval.quantize.layers import head_of, unfit_layers
from illama_eval.quantize.ptq import quantize
from illama_eval.quantize.schemes import QuantizationConfig, make_plan, sweep_configs
from illama_eval.subjects.subject import SubjectError

W8 = QuantizationConfig(scheme="w8")


class Scaled(nn.Linear):
    """A layer with a product of its own."""

    def forward(self, tokens: Tensor) -> Tensor:
        return 2 * super().forward(tokens)


class Odd(nn.Module):
    """A network that uses each of its layers in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.LazyLinear(32)
        self.read = nn.Linear(32, 32)
        self.named = nn.Linear(32, 32)
        self.unused = nn.Linear(32, 32)
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.second.weight = self.first.weight
        self.normed = parametrizations.weight_norm(nn.Linear(32, 32))
        self.scaled = Scaled(32, 32)
        self.either = nn.Linear(32, 32)
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.classifier = nn.Linear(32, 16)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.plain(images.mean(1))
        tokens = functional.linear(tokens, self.read.weight) + self.named(input=tokens)
        tokens = self.scaled(self.normed(self.second(self.first(tokens))))
        tokens = self.attention(tokens, tokens, tokens)[0] + self.either(tokens)
        logits: Tensor = self.classifier(self.either(tokens.mean(1)))
        return logits


LEFT = {
    "read": "not called",
    "named": "called with more than its input",
    "unused": "not called",
    "first": "tied",
    "second": "tied",
    "normed": "computed from others",
    "scaled": "a Scaled, with a product of its own",
    "either": "inputs of 2 and 3 dimensions",
    "attention.out_proj": "not called",
    "classifier": "excluded by 'head'",
}


def test_a_layer_that_is_used_in_another_way_is_left_with_its_reason(make_network, images):
    odd = make_network(Odd())
    plan = make_plan(odd, W8)
    assert list(plan.chosen) == ["plain"]
    assert plan.left.keys() == LEFT.keys()
    for name, words in LEFT.items():
        assert words in plan.left[name]
    made = quantize(odd, W8)
    assert is_quantized(made.model.plain.weight)
    assert made.model.first.weight is made.model.second.weight
    with torch.no_grad():
        torch.testing.assert_close(made.model(images), odd.model(images), rtol=0.1, atol=0.01)


def test_the_head_is_what_makes_the_classes_by_any_name(make_network, subject):
    assert head_of(subject) == "head"
    assert head_of(make_network()) == "classifier"
    assert head_of(make_network(classes=0)) is None
    assert make_plan(make_network(), W8).left["classifier"] == "excluded by 'head'"
    assert list(make_plan(make_network(classes=0), W8).left) == ["patches"]
    assert "classifier" in make_plan(make_network(), QuantizationConfig(exclude=())).chosen


def test_layers_of_a_model_of_illama_are_not_tried(subject, monkeypatch):
    monkeypatch.setattr("illama_eval.quantize.layers.watch_calls", lambda *_: pytest.fail("tried"))
    assert unfit_layers(subject) == {}


class Stubborn(nn.Linear):
    """A layer that cannot be copied."""

    def __deepcopy__(self, _: object) -> Stubborn:
        raise TypeError("not this one")


@pytest.mark.parametrize(
    ("module", "changes", "words"),
    [
        (nn.Sequential(nn.Conv2d(3, 16, 32), nn.Flatten()), {}, "has no linear layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 16)), {}, r"nothing is left .* \(1\)"),
        (nn.Sequential(nn.Flatten(), Scaled(3072, 16)), {"exclude": ()}, "1: a Scaled"),
        (None, {"smooth": 0.5}, "blocks of illama|illama's own blocks"),
        (None, {"exclude": ("heda",)}, "matches no layer"),
        (None, {"scheme": "w4", "group_size": 48}, "does not divide the 32 inputs"),
        (nn.Sequential(nn.Flatten(), Stubborn(3072, 16)), {"exclude": ()}, "cannot be copied"),
    ],
    ids=lambda given: str(given) if isinstance(given, str) else "",
)
def test_what_cannot_be_done_to_a_network_is_one_line(make_network, module, changes, words):
    with pytest.raises(SubjectError, match=words) as refused:
        quantize(make_network(module), QuantizationConfig(**changes))
    assert "\n" not in str(refused.value)


def test_a_sweep_of_a_network_has_all_but_smoothing(make_network):
    configs = sweep_configs(make_network(), QuantizationConfig())
    assert len(configs) == 13
    assert all(config.smooth is None for config in configs)
