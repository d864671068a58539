"""Post-training quantization of a model, with a record of every layer.

The paper's 8-bit figures (Table 7) come from 300 epochs of quantization-aware training instead.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from illama.checkpoint.checksums import sha256_of_weights
from illama.checkpoint.quantized import count_bytes, install, pack, serialize
from illama.checkpoint.quantized_weight import WHOLE_BYTE, QuantizedWeight, WeightLayout
from illama.checkpoint.torchao_tensors import is_quantized
from illama.files import first_line
from illama.model import Model
from illama.transforms import Transform
from illama_eval.quantize.activations import Inputs, choose_range, observe_inputs
from illama_eval.quantize.calibration import CalibrationSet
from illama_eval.quantize.layers import Quantizable, linear, soft_mask_of, try_out
from illama_eval.quantize.rounding import round_scale, round_weight
from illama_eval.quantize.schemes import Plan, QuantizationConfig, Scheme, make_plan
from illama_eval.quantize.smoothquant import smooth, unfolded
from illama_eval.subjects.subject import SubjectError, class_names_of

LABEL = "Post-training quantization; the paper's figures are of quantization-aware training"
"""Shown beside the numbers of a quantized model."""

DECISIVE = (
    *("scheme", "mixed", "group_size", "asymmetric", "smooth", "rounding", "clipping", "exclude"),
    "calibration",
)
"""What of a record decides the numbers; not all of it shows in the weights."""
NO_FILE = "the layout of quantized files has the layers of illama's own models"
"""Why another network is not stored."""
LARGEST_FP8 = 448.0
"""Largest number of float8_e4m3fn."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized network with a record of what was done."""

    model: nn.Module
    weights: Mapping[str, QuantizedWeight]
    record: Mapping[str, Any]
    """Kept in the file's header: scheme, settings, layers left in floating point, versions."""
    soft_mask: float = 0.0
    class_names: tuple[str, ...] | None = None
    """The names of the head's classes, if the base has them."""
    transform: Transform | None = None
    """The evaluation transform of the base."""
    layers: tuple[Mapping[str, Any], ...] = field(default=())
    """Name, bits, shape and SQNR of the weight in dB, of every quantized layer."""

    @property
    def simulated(self) -> bool:
        """Whether any layer dequantizes and multiplies in floating point."""
        return any(weight.form.simulated for weight in self.weights.values())

    @property
    def has_file(self) -> bool:
        """Whether it can be stored: a file holds a model of illama."""
        return isinstance(self.model, Model)

    @cached_property
    def file(self) -> bytes:
        """The bytes of the model's file.

        Raises:
            SubjectError: it is no model of illama.
        """
        if not isinstance(self.model, Model):
            raise SubjectError(f"a {type(self.model).__name__} is not stored: {NO_FILE}")
        return serialize(
            self.model,
            self.weights,
            self.record,
            soft_mask=self.soft_mask,
            class_names=self.class_names,
            transform=self.transform,
        )

    @cached_property
    def packed(self) -> dict[str, Tensor]:
        """The tensors of the model's file, or those that would be in one."""
        return pack(self.model, self.weights)

    def describe(self) -> dict[str, Any]:
        """Return what the run's header says about the quantization, JSON-able."""
        rounded = sum(math.prod(weight.form.shape) for weight in self.weights.values())
        total = len(self.file) if self.has_file else None
        kept = count_bytes(self.packed, self.weights, total)
        full = 4 * rounded + kept["float"]
        return {
            **self.record,
            "label": LABEL,
            "simulated": self.simulated,
            "quantized": [dict(layer) for layer in self.layers],
            "share": 4 * rounded / full,
            "stored": self.has_file,
            "bytes": {"total": total or sum(kept.values()), **kept, "full_precision": full},
        }


def quantize(
    subject: Quantizable, config: QuantizationConfig, calibration: CalibrationSet | None = None
) -> Quantized:
    """Return the subject's network, quantized; the subject itself is not changed.

    Raises:
        SubjectError: the config cannot be done here, or needs calibration images.
        CheckpointError: torchao is missing or does not fit torch.
    """
    plan = make_plan(subject, config)
    if config.needs_images and calibration is None:
        raise SubjectError(f"{config.needs_images} needs calibration images, and there are none")
    changed: dict[str, Any] = {"model": _copy(subject)}
    copied = replace(subject, **changed)
    model = copied.model
    folded: list[str] = []
    if config.smooth is not None and calibration is not None and isinstance(model, Model):
        seen = observe_inputs(copied, calibration.images, plan.chosen)
        folded = smooth(model, seen, config.smooth)
    inputs = _inputs(copied, plan, config, calibration)
    weights = {
        name: quantize_layer(linear(model, name), scheme, config, inputs.get(name))
        for name, scheme in plan.chosen.items()
    }
    layers = tuple(_describe_layer(model, name, weight) for name, weight in weights.items())
    install(model, weights)
    check_quantized(model, plan)
    if not isinstance(model, Model):
        try_out(copied, f"with its layers as {config.scheme}")
    return Quantized(
        model=model,
        weights=weights,
        soft_mask=soft_mask_of(subject),
        class_names=class_names_of(subject),
        transform=subject.transform,
        layers=layers,
        record=_record(subject, config, plan, calibration, folded),
    )


def _copy(subject: Quantizable) -> nn.Module:
    """Return a copy of a subject's network.

    Raises:
        SubjectError: it cannot be copied.
    """
    try:
        return copy.deepcopy(subject.model)
    except Exception as error:  # a network of someone else's may refuse in any way
        raise SubjectError(
            f"{subject.name}: cannot be copied, and so not be quantized beside itself "
            f"({first_line(error)})"
        ) from error


def _inputs(
    subject: Quantizable, plan: Plan, config: QuantizationConfig, calibration: CalibrationSet | None
) -> Mapping[str, Inputs]:
    """Return the inputs of the layers whose rounding or range depends on them."""
    static = [n for n, scheme in plan.chosen.items() if scheme.activation == "int8-static"]
    grams = config.rounding == "gptq"
    observed = list(plan.chosen) if grams else static
    if not observed or calibration is None:
        return {}
    return observe_inputs(subject, calibration.images, observed, grams=grams)


def quantize_layer(
    layer: nn.Linear, scheme: Scheme, config: QuantizationConfig, inputs: Inputs | None
) -> QuantizedWeight:
    """Return one layer's weight as integers with scales, and its layout."""
    out, width = layer.weight.shape
    if scheme.activation == "fp8-dynamic":
        return _to_fp8(layer.weight.detach())
    few = scheme.bits < WHOLE_BYTE
    asymmetric = config.asymmetric and few
    group = config.group_size if few else width
    values, scale, zero = round_weight(
        layer.weight,
        scheme.bits,
        group,
        asymmetric=asymmetric,
        rounding=config.rounding,
        gram=inputs.gram if inputs else None,
    )
    form = WeightLayout(
        shape=(out, width),
        bits=scheme.bits,
        group=group,
        zero=asymmetric,
        activation=scheme.activation,
        asymmetric=config.asymmetric and scheme.activation.startswith("int8"),
        activation_scale=None if scheme.activation != "int8-static" else 1.0,
    )
    if scheme.activation == "int8-static" and inputs is not None:
        step, at_zero = choose_range(inputs, config.clipping, asymmetric=config.asymmetric)
        form = replace(
            form, activation_scale=step, activation_zero=at_zero, dimensions=inputs.dimensions
        )
    return QuantizedWeight(form=form, values=values, scale=scale, zero=zero)


def _to_fp8(weight: Tensor) -> QuantizedWeight:
    """Return a weight in float8 with one scale."""
    exact = weight.float()
    scale = round_scale(exact.abs().amax().reshape(1, 1) / LARGEST_FP8)
    values = (exact / scale).clamp(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn)
    out, width = weight.shape
    form = WeightLayout(shape=(out, width), bits=8, group=width, activation="fp8-dynamic")
    return QuantizedWeight(form=form, values=values, scale=scale)


def _describe_layer(model: nn.Module, name: str, weight: QuantizedWeight) -> dict[str, Any]:
    """Return the record of a layer; SQNR = 10 log10(|w|^2 / |w - w_q|^2)."""
    exact = linear(model, name).weight.detach().double()
    noise = (weight.dequantize().double() - exact).square().sum()
    ratio = float(exact.square().sum() / noise) if noise else math.inf
    return {
        "name": name,
        "bits": weight.form.bits,
        "activation": weight.form.activation,
        "shape": list(weight.form.shape),
        "sqnr": round(10 * math.log10(ratio), 3) if 0 < ratio < math.inf else None,
    }


def check_quantized(model: nn.Module, plan: Plan) -> None:
    """Check that all layers of the plan are quantized, and no others.

    Raises:
        SubjectError: a layer is not as planned.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            if is_quantized(layer.weight) == (name in plan.chosen):
                continue
            what = "was left in floating point" if name in plan.chosen else "was quantized"
            raise SubjectError(f"{name} {what} against the plan; nothing was measured")


def _record(
    subject: Quantizable,
    config: QuantizationConfig,
    plan: Plan,
    calibration: CalibrationSet | None,
    folded: list[str],
) -> dict[str, Any]:
    """Return the record for the file's header."""
    settings = {key: value for key, value in asdict(config).items() if key != "layers"}
    model = subject.model
    rough = unfolded(model, list(plan.chosen)) if folded and isinstance(model, Model) else []
    return {
        **settings,
        "exclude": list(config.exclude),
        "mixed": dict(config.layers) or None,
        "left": dict(plan.left),
        "smoothed": folded,
        "not_smoothed": rough,
        "calibration": None if calibration is None else dict(calibration.record),
        "versions": {name: version(name) for name in ("torch", "torchao")},
        "base": {
            "file": subject.provenance.get("file"),
            "weights_sha256": subject.provenance.get("weights_sha256"),
        },
    }


def as_subject(quantized: Quantized, base: Quantizable) -> Quantizable:
    """Return the quantized network as a subject beside the one it was made from."""
    changed: dict[str, Any] = {"model": quantized.model}
    return replace(
        base,
        **changed,
        name=f"{base.name}+{variant_name(quantized.record)}",
        provenance={
            **base.provenance,
            "weights_sha256": sha256_of_weights(quantized.packed),
            "quantized_by": {name: quantized.record[name] for name in DECISIVE},
            "quantization": quantized.describe(),
        },
    )


def variant_name(record: Mapping[str, Any]) -> str:
    """Return the scheme with what is not the default: `w4-gptq`, `w8a8-static-smooth0.5`."""
    smooth = record["smooth"]
    parts = [
        str(record["scheme"]),
        "asymmetric" if record["asymmetric"] else "",
        "" if record["rounding"] == "nearest" else str(record["rounding"]),
        "" if smooth is None else f"smooth{smooth:g}",
    ]
    return "-".join(part for part in parts if part)
