"""Quantized models: what is refused, what is left and listed, what a file gives back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from illama import load
from illama_eval.quantize.ptq import as_subject, check_quantized, quantize
from illama_eval.quantize.schemes import SCHEMES, QuantizationConfig, make_plan
from illama_eval.subjects.subject import SubjectError

ON_CPU = [name for name in SCHEMES if name != "fp8"]


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
def test_a_quantized_file_loads_bit_equal(tmp_path, subject, images, calibration, choices):
    made = quantize(subject, choices, calibration)
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
