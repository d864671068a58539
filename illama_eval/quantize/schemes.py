"""Which layers are quantized, and how: schemes by name, checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from illama.checkpoint.quantized_weight import WHOLE_BYTE, Activation
from illama.checkpoint.torchao_tensors import is_quantized
from illama.model import Model
from illama_eval.quantize.activations import Clipping
from illama_eval.quantize.rounding import Rounding
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
"""What `--sweep` compares; fp8 besides where it runs."""

FLOAT = "float"
"""In a file of schemes by layer: leave this layer as it is."""
SMALLEST_CALIBRATION = 8
"""Images without which ranges mean nothing."""


@dataclass(frozen=True)
class Scheme:
    """How a layer's weight and input are stored and multiplied."""

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
    """Scheme by layer; those that are not named have `scheme`."""
    group_size: int = 32
    asymmetric: bool = False
    smooth: float | None = None
    rounding: Rounding = "nearest"
    clipping: Clipping = "mse"
    exclude: tuple[str, ...] = ("head",)
    """Patterns of layers that stay in floating point."""

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
        """Why calibration images are needed; empty where they are not."""
        if any(scheme.activation == "int8-static" for scheme in self.schemes):
            return "static ranges"
        if self.smooth is not None:
            return "--smooth"
        return "--rounding gptq" if self.rounding == "gptq" else ""


@dataclass(frozen=True)
class Plan:
    """What becomes of every layer that could be quantized."""

    chosen: Mapping[str, Scheme]
    left: Mapping[str, str]
    """Layers that stay in floating point, and why."""


def make_plan(model: Model, choices: QuantizationConfig, device: torch.device) -> Plan:
    """Return what becomes of every layer.

    Raises:
        SubjectError: this machine, this model or these choices cannot do what is asked.
    """
    check_choices(choices, device)
    if any(is_quantized(weight) for weight in model.parameters()):
        raise SubjectError("the checkpoint is quantized already; give the full-precision one")
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    _check_names(layers, choices)
    left = {
        name: reason
        for name, layer in layers.items()
        if (reason := _why_left(name, layer, choices))
    }
    chosen = {name: SCHEMES[choices.scheme_of(name)] for name in layers if name not in left}
    if not chosen:
        raise SubjectError("every layer is excluded: nothing is left to quantize")
    for name, scheme in chosen.items():
        _check_group(name, model.get_submodule(name), scheme, choices)
    return Plan(chosen=chosen, left=left)


def check_choices(choices: QuantizationConfig, device: torch.device) -> None:
    """Refuse what this machine or the schemes cannot do."""
    named = {*choices.layers.values()} - {FLOAT} if choices.layers else {choices.scheme}
    unknown = sorted(named - set(SCHEMES))
    if unknown:
        raise SubjectError(f"--scheme {unknown[0]}: use {', '.join(SCHEMES)}, or a file of layers")
    if choices.group_size < 1:
        raise SubjectError(f"--group-size {choices.group_size}: a positive number is needed")
    if choices.smooth is not None and not 0 <= choices.smooth <= 1:
        raise SubjectError(f"--smooth {choices.smooth}: a number from 0 to 1 is needed")
    kinds = {scheme.activation for scheme in choices.schemes}
    whole = any(s.bits == WHOLE_BYTE and s.activation == "float" for s in choices.schemes)
    if choices.asymmetric and (whole or "fp8-dynamic" in kinds):
        raise SubjectError("--asymmetric: w8 and fp8 have no zero points; use few bits or w8a8")
    if "fp8-dynamic" in kinds:
        _check_fp8(device)
        if choices.rounding != "nearest":
            raise SubjectError(f"--rounding {choices.rounding}: fp8 is no integer; use nearest")


def _check_fp8(device: torch.device) -> None:
    """Refuse fp8 where no kernel multiplies it."""
    needed = "compute capability 8.9 (L4, RTX 40, H100)"
    if device.type != "cuda":
        raise SubjectError(
            f"--scheme fp8 needs a GPU of {needed}: a CPU has no product of float8; "
            "use --scheme w8a8-dynamic"
        )
    if torch.cuda.get_device_capability(device) < (8, 9):
        raise SubjectError(f"--scheme fp8 needs {needed}; use --scheme w8a8-dynamic")


def _check_names(layers: Mapping[str, nn.Module], choices: QuantizationConfig) -> None:
    """Refuse names and patterns that match nothing: they are spelled wrongly."""
    for pattern in choices.exclude:
        if not any(fnmatch(name, pattern) for name in layers):
            raise SubjectError(f"--exclude {pattern}: matches no layer (such as {_some(layers)})")
    unknown = [name for name in choices.layers if name not in layers]
    if unknown:
        raise SubjectError(f"--scheme: the model has no layer {unknown[0]!r} ({_some(layers)})")


def _some(layers: Mapping[str, nn.Module]) -> str:
    return ", ".join(list(layers)[:3])


def _why_left(name: str, layer: nn.Module, choices: QuantizationConfig) -> str:
    """Return why a layer stays in floating point; empty where it does not."""
    if isinstance(layer, nn.Conv2d):
        return "a convolution: torchao's integer tensors have none"
    pattern = next((each for each in choices.exclude if fnmatch(name, each)), None)
    if pattern is not None:
        return f"excluded by {pattern!r}"
    if choices.scheme_of(name) == FLOAT:
        return "left by the schemes by layer"
    assert isinstance(layer, nn.Linear)
    real = SCHEMES[choices.scheme_of(name)].activation in ("int8-dynamic", "int8-static")
    sizes = {"outputs": layer.out_features, "inputs": layer.in_features}
    odd = next((f"{n} {what}" for what, n in sizes.items() if n % 8), None)
    if real and odd:
        return f"{odd}, no multiple of 8: a GPU would hand its int8 product to the CPU"
    return ""


def _check_group(name: str, layer: nn.Module, scheme: Scheme, choices: QuantizationConfig) -> None:
    assert isinstance(layer, nn.Linear)
    if scheme.bits < WHOLE_BYTE and layer.in_features % choices.group_size:
        raise SubjectError(
            f"--group-size {choices.group_size} does not divide the {layer.in_features} inputs of "
            f"{name}; use 32, or leave the layer out with --exclude"
        )


def sweep_choices(given: QuantizationConfig, device: torch.device) -> list[QuantizationConfig]:
    """Return all that a sweep compares here, with the group size and patterns given."""
    shared: dict[str, Any] = {
        "group_size": given.group_size,
        "exclude": given.exclude,
        "clipping": given.clipping,
    }
    every = [QuantizationConfig(**each, **shared) for each in (*SWEEP, {"scheme": "fp8"})]
    return [choices for choices in every if _can(choices, device)]


def _can(choices: QuantizationConfig, device: torch.device) -> bool:
    try:
        check_choices(choices, device)
    except SubjectError:
        return False
    return True
