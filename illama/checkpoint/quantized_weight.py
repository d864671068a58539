"""The quantized weight of one layer: integers, scales and the layout of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from illama.files import CheckpointError

BITS = (2, 3, 4, 6, 8)

WHOLE_BYTE = 8

Activation = Literal["float", "int8-dynamic", "int8-static", "int4-dynamic", "fp8-dynamic"]
"""Type of a layer's input in the product."""

LARGEST_LAYER = 2**28
"""Most weights of one layer; a bound on hostile files."""


@dataclass(frozen=True, kw_only=True)
class WeightLayout:
    """How one layer is stored and run."""

    shape: tuple[int, int]
    """[out, in]"""
    bits: int
    group: int
    """Input channels that share a scale; divides `in`."""
    zero: bool = False
    """Whether groups have zero points."""
    activation: Activation = "float"
    asymmetric: bool = False
    """Whether int8 activations have a zero point."""
    activation_scale: float | None = None
    """Of static activations."""
    activation_zero: int = 0
    dimensions: int = 3
    """Of the layer's input: [image, token, channel], or [image, channel] for the head; 4 where the
    tokens of another network are in rows and columns."""

    def __post_init__(self) -> None:
        for fault, found in self._faults().items():
            if found:
                raise CheckpointError(f"quantized layer: {fault}; the record was changed by hand")

    def _faults(self) -> dict[str, bool]:
        """Return each possible fault, and whether it is present."""
        out, width = self.shape
        scale = self.activation_scale
        floating, static = self.activation == "fp8-dynamic", self.activation == "int8-static"
        return {
            f"{self.bits} bits": self.bits not in BITS,
            f"shape {list(self.shape)}": not 0 < out * width <= LARGEST_LAYER or out < 1,
            f"group {self.group}": self.group < 1 or width % max(self.group, 1) != 0,
            f"activation {self.activation!r}": self.activation not in get_args(Activation),
            "fp8 of few bits": floating and self.bits < WHOLE_BYTE,
            "int8 inputs, few bits": self.activation.startswith("int8") and self.bits < WHOLE_BYTE,
            "groups or zero points of 8 bits": self.bits == WHOLE_BYTE
            and (self.group != width or self.zero),
            f"activation scale {scale}": static != (scale is not None)
            or (scale is not None and not 0 < scale < float("inf")),
            f"activation zero {self.activation_zero}": not -128 <= self.activation_zero <= 127,  # noqa: PLR2004 - int8
            f"input of {self.dimensions} dimensions": self.dimensions not in (2, 3, 4),
        }

    @property
    def simulated(self) -> bool:
        """Whether the arithmetic is floating point on dequantized numbers, and so not faster."""
        return self.activation in ("float", "int4-dynamic")


@dataclass(frozen=True, kw_only=True)
class QuantizedWeight:
    """One layer's weight as integers, rows in the order that the model keeps in memory."""

    form: WeightLayout
    values: Tensor
    """int8 [out, in], within the range of the bits; float8 for fp8."""
    scale: Tensor
    """fp32 [out, group], positive, each exactly a bf16 number; [1, 1] for fp8."""
    zero: Tensor | None = None
    """int8 [out, group]"""

    def dequantize(self) -> Tensor:
        """Return the weight in floating point, fp32 [out, in]."""
        out, width = self.form.shape
        values = self.values.float().view(out, -1, self.form.group)
        if self.zero is not None:
            values = values - self.zero.float()[..., None]
        return (values * self.scale[..., None]).view(out, width)

    def to(self, device: torch.device) -> QuantizedWeight:
        """Return the weight on a device."""
        zero = None if self.zero is None else self.zero.to(device)
        return replace(self, values=self.values.to(device), scale=self.scale.to(device), zero=zero)

    def rows(self, order: Tensor) -> QuantizedWeight:
        """Return the weight with its rows in another order."""
        scale = self.scale if len(self.scale) == 1 else self.scale[order]
        zero = None if self.zero is None else self.zero[order]
        return replace(self, values=self.values[order], scale=scale, zero=zero)
