"""Schemes by name, the config of a quantization, and the plan for every layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from illama.checkpoint.quantized_weight import WHOLE_BYTE, Activation
from illama.checkpoint.torchao_tensors import is_quantized
from illama.suggestions import did_you_mean
from illama_eval.quantize.activations import Clipping
from illama_eval.quantize.layers import HEAD, Quantizable, head_of, linear_layers, unfit_layers
from illama_eval.quantize.rounding import Rounding
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import SubjectError

SWEEP: tuple[Mapping[str, Any], ...] = (
    {"scheme": "w8"},
    {"scheme": "w8a8-dynamic"},
    {"scheme": "w8a8-static"},
    {"scheme": "w8a8-static", "smooth": 0.5},
    {"scheme": "w6"},
    {"scheme": "w4"},
    {"scheme": "w4", "rounding": "mse"},
    {"scheme": "w4", "rounding": "gptq"},
    {"scheme": "w3"},
    {"scheme": "w3", "rounding": "mse"},
    {"scheme": "w3", "rounding": "gptq"},
    {"scheme": "w2"},
    {"scheme": "w2", "rounding": "gptq"},
    {"scheme": "w4a4"},
)
"""What `--sweep` compares; also fp8 on a GPU that has it."""

FLOAT = "float"
"""In a file of schemes by layer: leave this layer as it is."""
CONVOLUTION = "a convolution: torchao's integer tensors have none"
EXCLUDED = "excluded by "
"""Reasons why a layer stays in floating point, the second followed by the pattern."""


@dataclass(frozen=True)
class Scheme:
    """How a layer's weight is stored, and how its input is multiplied."""

    bits: int
    activation: Activation = "float"


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "w8": Scheme(8),
        "w8a8-dynamic": Scheme(8, "int8-dynamic"),
        "w8a8-static": Scheme(8, "int8-static"),
        "w6": Scheme(6),
        "w4": Scheme(4),
        "w3": Scheme(3),
        "w2": Scheme(2),
        "fp8": Scheme(8, "fp8-dynamic"),
        "w4a4": Scheme(4, "int4-dynamic"),
    }
)
"""By bits of weight and activation; 8 bits share a scale per row, fewer per group of a row."""


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """How a model is to be quantized."""

    scheme: str = "w8a8-dynamic"
    """A name of SCHEMES, or of a file of schemes by layer."""
    layers: Mapping[str, str] = field(default_factory=dict)
    """Scheme by layer, others stay in floating point; where empty, all layers have `scheme`."""
    group_size: int = 32
    asymmetric: bool = False
    smooth: float | None = None
    rounding: Rounding = "nearest"
    clipping: Clipping = "mse"
    exclude: tuple[str, ...] = (HEAD,)
    """Patterns of layers that stay in floating point; HEAD is the head by whatever name."""

    def scheme_of(self, layer: str) -> str:
        """Return the name of a layer's scheme, or FLOAT."""
        return self.layers.get(layer, FLOAT if self.layers else self.scheme)

    @property
    def schemes(self) -> list[Scheme]:
        """The schemes that are used."""
        names = set(self.layers.values()) - {FLOAT} if self.layers else {self.scheme}
        return [SCHEMES[name] for name in sorted(names)]

    @property
    def needs_images(self) -> str:
        """Why calibration images are needed; empty if they are not."""
        if any(scheme.activation == "int8-static" for scheme in self.schemes):
            return "static ranges"
        if self.smooth is not None:
            return "--smooth"
        return "--rounding gptq" if self.rounding == "gptq" else ""


@dataclass(frozen=True)
class Plan:
    """The scheme of every layer that is quantized, and why the others are not."""

    chosen: Mapping[str, Scheme]
    left: Mapping[str, str]
    """Layers that stay in floating point, and why."""


def make_plan(subject: Quantizable, config: QuantizationConfig) -> Plan:
    """Return the plan for every layer of a subject.

    Raises:
        SubjectError: this machine or this network cannot do what the config says.
    """
    model = subject.model
    check_config(config, subject.device)
    _check_network(subject, config)
    if any(is_quantized(weight) for weight in model.parameters()):
        raise SubjectError("the checkpoint is quantized already; give the full-precision one")
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    _check_names(layers, config)
    left = _left(subject, layers, config)
    chosen = {name: SCHEMES[config.scheme_of(name)] for name in layers if name not in left}
    if not chosen:
        raise SubjectError(_nothing_left(left))
    _check_groups(model, chosen, config)
    return Plan(chosen=chosen, left=left)


def _check_network(subject: Quantizable, config: QuantizationConfig) -> None:
    """Refuse what can only be done to a model of illama, and a network without linear layers."""
    if isinstance(subject, ModelSubject):
        return
    if not linear_layers(subject.model):
        raise SubjectError(
            f"{subject.name}: has no linear layer, and only these are quantized; give a network "
            "that has some"
        )
    if config.smooth is not None:
        raise SubjectError(
            f"--smooth folds its factors into the norms of illama's own blocks, and {subject.name} "
            "has others; leave it out, or use --rounding gptq"
        )


def _left(
    subject: Quantizable, layers: Mapping[str, nn.Module], config: QuantizationConfig
) -> dict[str, str]:
    """Return the layers that stay in floating point, and why."""
    unfit, head = unfit_layers(subject), head_of(subject)
    left = {}
    for name, layer in layers.items():
        reason = unfit.get(name) or _why_left(name, layer, config, head)
        if reason:
            left[name] = reason
    return left


def _nothing_left(left: Mapping[str, str]) -> str:
    """Return in one line why there is nothing to quantize."""
    linear = {name: reason for name, reason in left.items() if reason != CONVOLUTION}
    if all(reason.startswith(EXCLUDED) for reason in linear.values()):
        more = f" ({', '.join(list(linear)[:3])}); --exclude none leaves out none"
        return f"every layer is excluded: nothing is left to quantize{more}"
    name, reason = next(each for each in linear.items() if not each[1].startswith(EXCLUDED))
    return f"no layer can be quantized; {name}: {reason}"


def check_config(config: QuantizationConfig, device: torch.device) -> None:
    """Refuse a config that this machine or its schemes cannot do.

    Raises:
        SubjectError: the scheme is unknown, or a setting does not fit it or the device.
    """
    named = {*config.layers.values()} - {FLOAT} if config.layers else {config.scheme}
    unknown = sorted(named - set(SCHEMES))
    if unknown:
        known = f": use {', '.join(SCHEMES)}, or a file of layers"
        hint = did_you_mean(unknown[0], SCHEMES) or known
        raise SubjectError(f"--scheme {unknown[0]}{hint}")
    if config.group_size < 1:
        raise SubjectError(f"--group-size {config.group_size}: a positive number is needed")
    if config.smooth is not None and not 0 <= config.smooth <= 1:
        raise SubjectError(f"--smooth {config.smooth}: a number from 0 to 1 is needed")
    kinds = {scheme.activation for scheme in config.schemes}
    whole = any(s.bits == WHOLE_BYTE and s.activation == "float" for s in config.schemes)
    if config.asymmetric and (whole or "fp8-dynamic" in kinds):
        raise SubjectError("--asymmetric: w8 and fp8 have no zero points; use few bits or w8a8")
    if "fp8-dynamic" in kinds:
        _check_fp8(device)
        if config.rounding != "nearest":
            raise SubjectError(f"--rounding {config.rounding}: fp8 is not an integer; use nearest")


def _check_fp8(device: torch.device) -> None:
    """Refuse fp8 on a device without a kernel for it."""
    needed = "compute capability 8.9 (L4, RTX 40, H100)"
    if device.type != "cuda":
        raise SubjectError(
            f"--scheme fp8 needs a GPU of {needed}: a CPU has no product of float8; "
            "use --scheme w8a8-dynamic"
        )
    if torch.cuda.get_device_capability(device) < (8, 9):
        raise SubjectError(f"--scheme fp8 needs {needed}; use --scheme w8a8-dynamic")


def _check_names(layers: Mapping[str, nn.Module], config: QuantizationConfig) -> None:
    """Refuse names and patterns that match no layer."""
    for pattern in config.exclude:
        if pattern != HEAD and not any(fnmatch(name, pattern) for name in layers):
            raise SubjectError(f"--exclude {pattern}: matches no layer (such as {_some(layers)})")
    unknown = [name for name in config.layers if name not in layers]
    if unknown:
        raise SubjectError(f"--scheme: the model has no layer {unknown[0]!r} ({_some(layers)})")


def _some(layers: Mapping[str, nn.Module]) -> str:
    return ", ".join(list(layers)[:3])


def _why_left(name: str, layer: nn.Module, config: QuantizationConfig, head: str | None) -> str:
    """Return why a layer stays in floating point; empty if it does not."""
    if isinstance(layer, nn.Conv2d):
        return CONVOLUTION
    names = {name, HEAD} if name == head else {name}
    pattern = next((p for p in config.exclude if any(fnmatch(n, p) for n in names)), None)
    if pattern is not None:
        return f"{EXCLUDED}{pattern!r}"
    if config.scheme_of(name) == FLOAT:
        return "left by the schemes by layer"
    assert isinstance(layer, nn.Linear)
    real = SCHEMES[config.scheme_of(name)].activation in ("int8-dynamic", "int8-static")
    sizes = {"outputs": layer.out_features, "inputs": layer.in_features}
    odd = next((f"{n} {what}" for what, n in sizes.items() if n % 8), None)
    if real and odd:
        return f"{odd}, no multiple of 8: a GPU would hand its int8 product to the CPU"
    return ""


def _check_groups(
    model: nn.Module, chosen: Mapping[str, Scheme], config: QuantizationConfig
) -> None:
    """Raise where the inputs of a layer do not come out even in groups."""
    inputs: dict[str, int] = {}
    for name, scheme in chosen.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        if scheme.bits < WHOLE_BYTE:
            inputs[name] = layer.in_features
    for name, width in inputs.items():
        if width % config.group_size:
            shared = math.gcd(*inputs.values())
            fits = (size for size in range(config.group_size, 0, -1) if not shared % size)
            raise SubjectError(
                f"--group-size {config.group_size} does not divide the {width} inputs of {name}; "
                f"use {next(fits)}, or leave the layer out with --exclude"
            )


def sweep_configs(subject: Quantizable, given: QuantizationConfig) -> list[QuantizationConfig]:
    """Return the configs of a sweep of this subject, with the group size and patterns given."""
    shared: dict[str, Any] = {
        "group_size": given.group_size,
        "exclude": given.exclude,
        "clipping": given.clipping,
    }
    every = [QuantizationConfig(**each, **shared) for each in (*SWEEP, {"scheme": "fp8"})]
    return [config for config in every if _is_possible(subject, config)]


def _is_possible(subject: Quantizable, config: QuantizationConfig) -> bool:
    try:
        check_config(config, subject.device)
        _check_network(subject, config)
    except SubjectError:
        return False
    return True
