"""Post-training quantization of a model, with a record of every layer.

The paper's 8-bit figures (Table 7) come from 300 epochs of quantization-aware training instead.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from illama.checkpoint.quantized import count_bytes, install, pack, serialize
from illama.checkpoint.quantized_weight import WHOLE_BYTE, QuantizedWeight, WeightLayout
from illama.checkpoint.torchao_tensors import is_quantized
from illama.checkpoint.weights import sha256_of_weights
from illama.model import Model
from illama.sources.source import Source
from illama.transforms import Transform
from illama_eval.quantize.activations import Inputs, choose_range, linear, observe_inputs
from illama_eval.quantize.rounding import round_scale, round_weight
from illama_eval.quantize.schemes import (
    SMALLEST_CALIBRATION,
    Plan,
    QuantizationConfig,
    Scheme,
    make_plan,
)
from illama_eval.quantize.smoothquant import smooth, unfolded
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import SubjectError, class_names_of

LABEL = "PTQ; the paper's figures are QAT"
"""Shown beside the numbers of a quantized model."""

DECISIVE = (
    *("scheme", "mixed", "group_size", "asymmetric", "smooth", "rounding", "clipping", "exclude"),
    "calibration",
)
"""What of a record decides the numbers; not all of it shows in the weights."""
LARGEST_FP8 = 448.0
"""Largest number of float8_e4m3fn."""


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """Images that ranges, smoothing and GPTQ are fitted to; results are on other images."""

    images: Tensor
    """Prepared, fp32 [image, 3, row, column]."""
    record: Mapping[str, Any]
    """Source, split, number of images and the sha256 of their ids."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized model with a record of what was done."""

    model: Model
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

    @cached_property
    def file(self) -> bytes:
        """The bytes of the model's file."""
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
        """The tensors of the model's file."""
        return pack(self.model, self.weights)

    def describe(self) -> dict[str, Any]:
        """Return what the run's header says about the quantization, JSON-able."""
        full = 4 * sum(math.prod(weight.form.shape) for weight in self.weights.values())
        kept = count_bytes(self.packed, len(self.file))
        return {
            **self.record,
            "label": LABEL,
            "simulated": self.simulated,
            "quantized": [dict(layer) for layer in self.layers],
            "bytes": {"total": len(self.file), **kept, "full_precision": full + kept["float"]},
        }


def calibrate_on(
    source: Source, reported: Source | None, subject: ModelSubject, images: int, seed: int = 0
) -> CalibrationSet:
    """Return calibration images of a source, none of them among the reported ones.

    Raises:
        SubjectError: there are too few, or some are among the reported ones.
    """
    if images < SMALLEST_CALIBRATION or len(source) < images:
        raise SubjectError(
            f"--train-limit {images}: {source.name} has {len(source)}, and at least "
            f"{SMALLEST_CALIBRATION} are needed"
        )
    chosen = source.limit(images, seed)
    if reported is not None:
        _check_disjoint(chosen, reported)
    digest = hashlib.sha256("\n".join(sorted(chosen.ids)).encode()).hexdigest()
    return CalibrationSet(
        images=prepare_images(subject, chosen),
        record={
            "source": source.name,
            "split": source.split,
            "images": len(chosen),
            "ids_sha256": digest,
            "fingerprint": chosen.fingerprint,
        },
    )


def prepare_images(subject: ModelSubject, source: Source) -> Tensor:
    """Return all images of a source as the subject takes them, [image, 3, row, column]."""
    pixels = [subject.transform.geometry(source.read(i)) for i in range(len(source))]
    return subject.transform.normalize(torch.stack(pixels).to(subject.device))


def _check_disjoint(source: Source, reported: Source) -> None:
    """Refuse calibration images that are also reported on, compared by content."""
    known = set(reported.contents) - {""}
    shared = [
        one for one, content in zip(source.ids, source.contents, strict=True) if content in known
    ]
    if shared:
        raise SubjectError(
            f"calibration on {source.name}: {len(shared)} of {len(source)} images are among the"
            f" reported ones (first {shared[0]!r}); name a training set with --train-data"
        )


def quantize(
    subject: ModelSubject, config: QuantizationConfig, calibration: CalibrationSet | None = None
) -> Quantized:
    """Return the subject's model, quantized; the subject itself is not changed.

    Raises:
        SubjectError: the config cannot be done here, or needs calibration images.
        CheckpointError: torchao is missing or does not fit torch.
    """
    plan = make_plan(subject.model, config, subject.device)
    if config.needs_images and calibration is None:
        raise SubjectError(f"{config.needs_images} needs calibration images, and there are none")
    model = copy.deepcopy(subject.model)
    folded: list[str] = []
    if config.smooth is not None and calibration is not None:
        seen = observe_inputs(model, calibration.images, plan.chosen, subject.soft_mask)
        folded = smooth(model, seen, config.smooth)
    inputs = _inputs(model, plan, config, calibration, subject.soft_mask)
    weights = {
        name: quantize_layer(linear(model, name), scheme, config, inputs.get(name))
        for name, scheme in plan.chosen.items()
    }
    layers = tuple(_describe_layer(model, name, weight) for name, weight in weights.items())
    install(model, weights)
    check_quantized(model, plan)
    return Quantized(
        model=model,
        weights=weights,
        soft_mask=subject.soft_mask,
        class_names=class_names_of(subject),
        transform=subject.transform,
        layers=layers,
        record=_record(subject, config, plan, calibration, folded),
    )


def _inputs(
    model: Model,
    plan: Plan,
    config: QuantizationConfig,
    calibration: CalibrationSet | None,
    soft_mask: float,
) -> Mapping[str, Inputs]:
    """Return the inputs of the layers whose rounding or range depends on them."""
    static = [n for n, scheme in plan.chosen.items() if scheme.activation == "int8-static"]
    grams = config.rounding == "gptq"
    observed = list(plan.chosen) if grams else static
    if not observed or calibration is None:
        return {}
    return observe_inputs(model, calibration.images, observed, soft_mask, grams=grams)


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


def _describe_layer(model: Model, name: str, weight: QuantizedWeight) -> dict[str, Any]:
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


def check_quantized(model: Model, plan: Plan) -> None:
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
    subject: ModelSubject,
    config: QuantizationConfig,
    plan: Plan,
    calibration: CalibrationSet | None,
    folded: list[str],
) -> dict[str, Any]:
    """Return the record for the file's header."""
    settings = {key: value for key, value in asdict(config).items() if key != "layers"}
    rough = unfolded(subject.model, list(plan.chosen)) if folded else []
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


def as_subject(quantized: Quantized, base: ModelSubject) -> ModelSubject:
    """Return the quantized model as a subject beside the one it was made from."""
    return replace(
        base,
        name=f"{base.name}+{variant_name(quantized.record)}",
        model=quantized.model,
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
