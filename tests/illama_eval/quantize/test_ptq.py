"""Quantized models: what is refused, what is left and listed, what a file gives back."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from illama import load
from illama_eval.quantize.ptq import as_subject, check_quantized, quantize
from illama_eval.quantize.schemes import SCHEMES, QuantizationConfig, make_plan
from illama_eval.subjects.subject import SubjectError

ON_CPU = [name for name in SCHEMES if name != "fp8"]


@pytest.fixture(scope="module")
def shallow(make_subject):
    """Return a subject of two blocks."""
    return make_subject(depth=2)


@pytest.mark.parametrize(
    "choices",
    [
        *(QuantizationConfig(scheme=name) for name in ON_CPU),
        QuantizationConfig(scheme="w4", asymmetric=True),
        QuantizationConfig(scheme="w8a8-dynamic", asymmetric=True),
        QuantizationConfig(scheme="w8a8-static", asymmetric=True, smooth=0.5),
        QuantizationConfig(scheme="w3", rounding="gptq", group_size=64),
        QuantizationConfig(scheme="w2", rounding="mse", exclude=()),
        QuantizationConfig(scheme="w8a8-static", exclude=()),
        QuantizationConfig(
            scheme="mixed", layers={"head": "w4", "blocks.1.attention.qkv": "w8"}, exclude=()
        ),
    ],
    ids=lambda c: f"{c.scheme} {c.rounding} {c.smooth or ''} {c.asymmetric}",
)
def test_a_quantized_file_loads_bit_equal(tmp_path, shallow, images, calibration, choices):
    made = quantize(shallow, choices, calibration)
    path = tmp_path / "model.safetensors"
    path.write_bytes(made.file)
    with torch.no_grad():
        before = made.model(images)
        assert torch.equal(load(path)(images), before)
    assert before.isfinite().all()
    assert made.describe()["bytes"]["total"] == len(made.file)


def test_the_exact_model_stays_as_it_is(subject, images, calibration):
    before = copy.deepcopy(subject.model.state_dict())
    quantize(subject, QuantizationConfig(scheme="w8a8-static", smooth=0.5), calibration)
    after = subject.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_more_bits_are_nearer_to_the_exact_model(subject, images):
    with torch.no_grad():
        exact = subject.model(images)
        errors = [
            (quantize(subject, QuantizationConfig(scheme=name)).model(images) - exact)
            .square()
            .mean()
            .item()
            for name in ("w8", "w6", "w4", "w3", "w2")
        ]
    assert errors == sorted(errors)


def test_a_quantized_layer_multiplies_what_its_integers_stand_for(subject):
    made = quantize(subject, QuantizationConfig(scheme="w4", exclude=()))
    layer = made.model.head
    tokens = torch.randn(5, 64)
    exact = tokens @ made.weights["head"].dequantize().T + layer.bias
    assert torch.allclose(layer(tokens), exact, atol=1e-5)


def test_files_of_few_bits_are_really_small(subject):
    size = {
        name: quantize(subject, QuantizationConfig(scheme=name)).describe()["bytes"]
        for name in ("w8", "w4")
    }
    weights = 3 * (4 * 64 * 64 + 3 * 64 * 256)
    assert size["w8"]["values"] == weights
    assert size["w4"]["values"] == weights / 2
    assert size["w4"]["scale"] == 2 * weights / 32


def test_what_is_left_in_float_is_listed_with_its_reason(subject):
    plan = make_plan(subject, QuantizationConfig())
    assert set(plan.left) == {"patch_embedding", "head"}
    assert "convolution" in plan.left["patch_embedding"]
    assert "excluded" in plan.left["head"]


def test_layers_that_a_gpu_would_hand_to_the_cpu_are_left_and_listed(make_subject):
    odd = make_subject(classes=10)
    plan = make_plan(odd, QuantizationConfig(exclude=()))
    assert "10 outputs, no multiple of 8" in plan.left["head"]
    assert "head" in make_plan(odd, QuantizationConfig(scheme="w4", exclude=())).chosen


def test_a_layer_that_was_skipped_silently_is_found(subject):
    made = quantize(subject, QuantizationConfig(scheme="w8"))
    plan = make_plan(subject, QuantizationConfig(scheme="w8"))
    check_quantized(made.model, plan)
    layer = made.model.blocks[1].feed_forward.up
    layer.weight = nn.Parameter(layer.weight.dequantize())
    with pytest.raises(SubjectError, match=r"blocks\.1\.feed_forward\.up was left"):
        check_quantized(made.model, plan)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scheme": "w5"}, "w5"),
        ({"scheme": "fp8"}, "GPU"),
        ({"scheme": "w8", "asymmetric": True}, "no zero points"),
        ({"scheme": "w4", "group_size": 48}, "does not divide"),
        ({"scheme": "w4", "group_size": 0}, "positive"),
        ({"smooth": 1.5}, "from 0 to 1"),
        ({"exclude": ("heda",)}, "matches no layer"),
        ({"exclude": ("*",)}, "nothing is left"),
        ({"scheme": "w8a8-static"}, "calibration images"),
        ({"rounding": "gptq", "scheme": "w4"}, "calibration images"),
        ({"smooth": 0.5}, "calibration images"),
        ({"layers": {"blocks.9.attention.qkv": "w4"}}, "no layer"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_in_one_line(subject, changes, words):
    with pytest.raises(SubjectError, match=words) as refused:
        quantize(subject, QuantizationConfig(**changes))
    assert "\n" not in str(refused.value)


def test_a_quantized_model_is_not_quantized_again(subject):
    made = quantize(subject, QuantizationConfig(scheme="w8"))
    with pytest.raises(SubjectError, match="quantized already"):
        quantize(as_subject(made, subject), QuantizationConfig(scheme="w4"))


def by_hand(weight: Tensor, bits: int, group: int) -> Tensor:
    """Return a weight rounded to the nearest of 2^bits levels, symmetric, a scale per group."""
    grouped = weight.double().reshape(len(weight), -1, group)
    scale = (2 * grouped.abs().amax(-1, keepdim=True) / (2**bits - 1)).bfloat16().double()
    levels = (grouped / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (levels * scale).reshape(weight.shape).float()


def with_rounded_inputs(layer: nn.Linear) -> None:
    """Round a layer's inputs, token by token, to the nearest of 16 levels."""

    def rounded(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        scale = given[0].abs().amax(-1, keepdim=True) / 7.5
        return ((given[0] / scale).round().clamp(-8, 7) * scale,)

    layer.register_forward_pre_hook(rounded)


@pytest.mark.parametrize(
    ("scheme", "bits", "group"),
    [("w8", 8, None), ("w6", 6, 32), ("w4", 4, 32), ("w2", 2, 32), ("w4a4", 4, 32)],
)
def test_another_network_has_the_logits_of_its_weights_rounded_by_hand(
    make_network, images, scheme, bits, group
):
    network = make_network()
    expected = copy.deepcopy(network.model)
    for name, layer in expected.named_modules():
        if isinstance(layer, nn.Linear) and name != "classifier":
            layer.weight.data = by_hand(layer.weight.data, bits, group or layer.in_features)
            if scheme == "w4a4":
                with_rounded_inputs(layer)
    made = quantize(network, QuantizationConfig(scheme=scheme))
    with torch.no_grad():
        exact, rounded, found = network.model(images), expected(images), made.model(images)
    assert (rounded - exact).norm() > 1e-3 * exact.norm()
    torch.testing.assert_close(found, rounded, rtol=0, atol=1e-5)


def test_another_networks_layers_multiply_inputs_of_8_bits_rounded_by_hand(make_network, images):
    """Layer by layer: the largest input of a token is a tie between two levels."""
    network, errors = make_network(), {}
    made = quantize(network, QuantizationConfig(scheme="w8a8-dynamic"))

    def compare(_: nn.Module, given: tuple[Tensor], output: Tensor, *, name: str) -> None:
        exact = network.model.get_submodule(name)
        scale = given[0].abs().amax(-1, keepdim=True) / 127.5
        rounded = (given[0] * (1 / scale)).round().clamp(-128, 127) * scale
        weight = by_hand(exact.weight.data, 8, exact.in_features)
        errors[name] = (output - functional.linear(rounded, weight, exact.bias)).abs().max().item()

    for name in made.weights:
        made.model.get_submodule(name).register_forward_hook(partial(compare, name=name))
    with torch.no_grad():
        made.model(images)
    assert len(errors) == 8
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("rounding", ["nearest", "mse", "gptq"])
def test_another_network_is_nearer_with_more_bits_and_stays_as_it_is(
    make_network, images, calibration, rounding
):
    network = make_network()
    before = copy.deepcopy(network.model.state_dict())
    with torch.no_grad():
        exact = network.model(images)
        errors = [
            (quantize(network, config, calibration).model(images) - exact).square().mean().item()
            for config in (
                QuantizationConfig(scheme=name, rounding=rounding) for name in ("w8", "w4", "w2")
            )
        ]
    assert errors == sorted(errors)
    after = network.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_inputs_of_another_network_are_calibrated(make_network, images, calibration):
    network = make_network()
    made = quantize(network, QuantizationConfig(scheme="w8a8-static"), calibration)
    with torch.no_grad():
        exact, found = network.model(images), made.model(images)
    assert 0 < (found - exact).norm() < 0.05 * exact.norm()
    gptq, nearest = (
        quantize(network, QuantizationConfig(scheme="w3", rounding=how), calibration).model
        for how in ("gptq", "nearest")
    )
    with torch.no_grad():
        assert (gptq(images) - exact).norm() < (nearest(images) - exact).norm()


def test_the_size_of_another_network_is_counted_and_no_file_is_made(make_network):
    made = quantize(make_network(), QuantizationConfig(scheme="w4"))
    described, rounded = made.describe(), 2 * (3 + 1 + 2 + 2) * 32 * 32
    size = described["bytes"]
    everything = sum(each.numel() for each in make_network().model.parameters())
    assert size["values"] == rounded / 2
    assert size["scale"] == 2 * rounded / 32
    assert size["float"] == 4 * (everything - rounded)
    assert size["full_precision"] == 4 * everything
    assert size["total"] == sum(size[part] for part in ("values", "scale", "zero", "float"))
    assert described["share"] == rounded / everything
    assert not described["stored"]
    with pytest.raises(SubjectError, match=r"SmallTransformer is not stored: .*own models"):
        _ = made.file
