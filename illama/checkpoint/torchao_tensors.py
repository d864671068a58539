"""Conversion of our quantized weights to torchao's tensors; only this module uses torchao.

torchao is imported on first use. Its import logs warnings about kernels that are not built and not
needed here; they are suppressed.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from illama.checkpoint.quantized_weight import QuantizedWeight, WeightLayout
from illama.files import CheckpointError, first_line


@dataclass(frozen=True)
class Names:
    """The classes of torchao that are used."""

    int8_tensor: Any
    int8_input: Any
    intx_tensor: Any
    float8_tensor: Any
    float8_input: Any
    float8_product: Any
    per_row: Any
    per_tensor: Any
    mapping: Any


@cache
def names() -> Names:
    """Return torchao's classes.

    Raises:
        CheckpointError: torchao is not installed, or its version and torch's are incompatible.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _import()
    except Exception as error:  # incompatible versions fail in any way
        raise CheckpointError(_unfit(error)) from error
    finally:
        logging.disable(disabled)


def _unfit(error: Exception) -> str:
    """Return one line about the incompatible versions."""
    try:
        found = version("torchao")
    except PackageNotFoundError:
        return "quantized weights need torchao, which is not installed; pip install torchao"
    return (
        f"torchao {found} and torch {torch.__version__} are incompatible "
        f"({first_line(error)}); install the torchao release for this torch"
    )


def _import() -> Names:
    from torchao.float8.inference import Float8MMConfig  # noqa: PLC0415 - torchao is optional until used
    from torchao.quantization import Float8Tensor, Int8Tensor, IntxUnpackedToInt8Tensor  # noqa: PLC0415
    from torchao.quantization.granularity import PerRow, PerTensor  # noqa: PLC0415
    from torchao.quantization.quant_primitives import MappingType  # noqa: PLC0415
    from torchao.quantization.quantize_.workflows.float8.float8_tensor import (  # noqa: PLC0415
        QuantizeTensorToFloat8Kwargs,
    )
    from torchao.quantization.quantize_.workflows.int8.int8_tensor import QuantizeTensorToInt8Kwargs  # noqa: PLC0415

    return Names(
        int8_tensor=Int8Tensor,
        int8_input=QuantizeTensorToInt8Kwargs,
        intx_tensor=IntxUnpackedToInt8Tensor,
        float8_tensor=Float8Tensor,
        float8_input=QuantizeTensorToFloat8Kwargs,
        float8_product=Float8MMConfig,
        per_row=PerRow,
        per_tensor=PerTensor,
        mapping=MappingType,
    )


def is_quantized(tensor: Tensor) -> bool:
    """Return whether a weight is one of torchao's tensors, without importing torchao."""
    return any(base.__module__.startswith("torchao.") for base in type(tensor).__mro__)


def tensor_of(weight: QuantizedWeight) -> Tensor:
    """Return torchao's tensor of a quantized weight, on the device of its values.

    Raises:
        CheckpointError: torchao is missing or incompatible with torch.
    """
    form = weight.form
    if form.activation == "fp8-dynamic":
        return _float8(weight)
    if form.bits == 8 and form.activation != "int4-dynamic":  # noqa: PLR2004 - whole bytes
        return _int8(weight)
    ao = names()
    zero = torch.zeros_like(weight.scale, dtype=torch.int8) if weight.zero is None else weight.zero
    bits = getattr(torch, f"int{form.bits}")
    tensor: Tensor = ao.intx_tensor(
        weight.values, weight.scale, zero, bits, (1, form.group), torch.float32, None
    )
    return tensor


def _int8(weight: QuantizedWeight) -> Tensor:
    ao, form = names(), weight.form
    shape = (1,) * form.dimensions
    kept: dict[str, Any] = {}
    if form.activation_scale is not None:
        device, zero = weight.values.device, form.activation_zero
        kept["act_quant_scale"] = torch.full(shape, form.activation_scale, device=device)
        kept["act_quant_zero_point"] = torch.full(shape, zero, dtype=torch.int8, device=device)
    tensor: Tensor = ao.int8_tensor(
        weight.values,
        weight.scale,
        [1, form.shape[1]],
        torch.float32,
        zero_point=torch.zeros_like(weight.scale, dtype=torch.int8),
        act_quant_kwargs=None if form.activation == "float" else _int8_input(form),
        **kept,
    )
    return tensor


def _int8_input(form: WeightLayout) -> Any:
    ao = names()
    granularity = ao.per_tensor() if form.activation == "int8-static" else ao.per_row()
    mapping = ao.mapping.ASYMMETRIC if form.asymmetric else ao.mapping.SYMMETRIC
    return ao.int8_input(granularity, mapping)


def _float8(weight: QuantizedWeight) -> Tensor:
    ao, form = names(), weight.form
    product = ao.float8_product(use_fast_accum=True)
    tensor: Tensor = ao.float8_tensor(
        weight.values,
        weight.scale,
        block_size=list(form.shape),
        mm_config=product,
        act_quant_kwargs=ao.float8_input(granularity=ao.per_tensor(), mm_config=product),
        dtype=torch.float32,
    )
    return tensor
