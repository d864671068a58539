"""Quantized checkpoints: integers and scales on disk, torchao's tensors in memory.

The layout is our own, not a pickle of torchao's classes: NAME.values (int8 [out, in], or bits
packed into bytes), NAME.scale (bf16 [out, group]), NAME.zero (int8), and a record of how to read
them. Rows are in the published order, as in every file.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from illama.checkpoint.checksums import to_safetensors
from illama.checkpoint.quantized_weight import WHOLE_BYTE, QuantizedWeight, WeightLayout
from illama.checkpoint.torchao_tensors import tensor_of
from illama.files import CheckpointError
from illama.layers import Attention, halves_first
from illama.model import Model
from illama.transforms import Transform

FORMAT = 1
"""Version of the layout on disk."""


def install(model: nn.Module, weights: Mapping[str, QuantizedWeight]) -> list[RemovableHandle]:
    """Replace the weights of the named layers by quantized ones.

    Returns the handles of the hooks that quantize inputs in floating point.

    Raises:
        CheckpointError: torchao is missing or does not fit torch, or a name is not a linear layer.
    """
    handles = []
    for name, weight in weights.items():
        layer = model.get_submodule(name)
        if not isinstance(layer, nn.Linear) or tuple(layer.weight.shape) != weight.form.shape:
            raise CheckpointError(f"{name} is not a linear layer {list(weight.form.shape)}")
        tensor = tensor_of(weight.to(layer.weight.device))
        layer.weight = nn.Parameter(tensor, requires_grad=False)
        if weight.form.activation == "int4-dynamic":
            handles.append(layer.register_forward_pre_hook(_quantize_input))
    return handles


def _quantize_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Round each token of a layer's input to 16 levels."""
    del layer
    (tokens,) = inputs
    exact = tokens.float()
    scale = (exact.abs().amax(-1, keepdim=True) / 7.5).clamp_min(torch.finfo(torch.float32).eps)
    levels = (exact / scale).round().clamp(-8, 7)
    return ((levels * scale).type_as(tokens),)


def published_rows(model: Model, name: str) -> Tensor | None:
    """Return each memory row's index in the published weight; None: the same index."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    if not isinstance(owner, Attention) or leaf != "qkv" or model.rotary is None:
        return None
    return halves_first(model.config.width, owner.heads)


def pack(model: nn.Module, weights: Mapping[str, QuantizedWeight]) -> dict[str, Tensor]:
    """Return all tensors of a quantized model, on the CPU, each once; ours as in its file.

    Our own model has its rows in the published order; floating point becomes fp32.
    """
    replaced = {f"{name}.weight" for name in weights}
    state = {
        key: value.detach().cpu().contiguous()
        for key, value in _distinct(model.state_dict(keep_vars=True))
        if key not in replaced
    }
    state = {key: each.float() if each.is_floating_point() else each for key, each in state.items()}
    for name, weight in weights.items():
        order = published_rows(model, name) if isinstance(model, Model) else None
        ordered = weight if order is None else weight.rows(order.argsort())
        state |= {f"{name}.{part}": tensor for part, tensor in _stored(ordered)}
    return state


def _distinct(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state; of one that has several names, the first."""
    seen: set[int] = set()
    for key, value in state.items():
        if isinstance(value, Tensor) and id(value) not in seen:
            seen.add(id(value))
            yield key, value


def _stored(weight: QuantizedWeight) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of one layer as they are stored in the file."""
    bits = weight.form.bits
    values = weight.values.cpu().contiguous()
    yield "values", values if bits == WHOLE_BYTE else pack_bits(values, bits)
    yield "scale", weight.scale.cpu().bfloat16().contiguous()
    if weight.zero is not None:
        yield "zero", weight.zero.cpu().contiguous()


def pack_bits(values: Tensor, bits: int) -> Tensor:
    """Return signed values of few bits as a stream of bits, least first, uint8 [byte]."""
    unsigned = (values.flatten().numpy().astype(np.int16) + (1 << bits - 1)).astype(np.uint8)
    planes = np.unpackbits(unsigned[:, None], axis=1, count=bits, bitorder="little")
    return torch.from_numpy(np.packbits(planes.ravel(), bitorder="little"))


def unpack_bits(packed: Tensor, bits: int, shape: tuple[int, int]) -> Tensor:
    """Return the values that `pack_bits` packed, int8 of this shape."""
    count = shape[0] * shape[1]
    stream = np.unpackbits(packed.numpy(), count=count * bits, bitorder="little")
    unsigned = np.packbits(stream.reshape(count, bits), axis=1, bitorder="little")[:, 0]
    values = unsigned.astype(np.int16) - (1 << bits - 1)
    return torch.from_numpy(values.astype(np.int8)).view(shape)


def serialize(
    model: Model,
    weights: Mapping[str, QuantizedWeight],
    about: Mapping[str, Any],
    *,
    soft_mask: float,
    class_names: Sequence[str] | None = None,
    transform: Transform | None = None,
) -> bytes:
    """Return the bytes of a quantized model's file.

    `about` is kept in the header: scheme, versions, base checkpoint, calibration.
    """
    state = pack(model, weights)
    layers = {name: asdict(weight.form) for name, weight in weights.items()}
    record = {
        "config": model.config.to_dict(),
        "soft_mask": float(soft_mask),
        "quantization": {**about, "format": FORMAT, "layers": layers},
    }
    if class_names is not None:
        record["class_names"] = list(class_names)
    if transform is not None:
        record["transform"] = transform.to_dict()
    return to_safetensors(json.loads(json.dumps(record)), state)


def count_bytes(
    state: Mapping[str, Tensor], weights: Container[str], total: int | None = None
) -> dict[str, int]:
    """Return the bytes of a state by kind; with its header they add up to the `total` of a file.

    `weights` are the names of the quantized layers; what else a state holds is "float".
    """
    count = {"values": 0, "scale": 0, "zero": 0, "float": 0}
    for key, tensor in state.items():
        layer, _, part = key.rpartition(".")
        kind = part if layer in weights and part in count else "float"
        count[kind] += tensor.numel() * tensor.element_size()
    return {**count, "header": 0 if total is None else total - sum(count.values())}


def unpack_weights(
    state: Mapping[str, Tensor], record: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, QuantizedWeight]]:
    """Return a file's weights in floating point, and the quantized ones, in the published order.

    Raises:
        CheckpointError: the record and the tensors do not fit each other.
    """
    if record.get("format") != FORMAT:
        raise CheckpointError(
            f"quantized in format {record.get('format')!r}, this program reads {FORMAT}; "
            "quantize the full-precision checkpoint again"
        )
    rest = dict(state)
    weights = {name: _read_layer(name, form, rest) for name, form in _layers(record)}
    for name, weight in weights.items():
        rest[f"{name}.weight"] = weight.dequantize()
    return rest, weights


def _layers(record: Mapping[str, Any]) -> Iterator[tuple[str, WeightLayout]]:
    """Yield name and layout of every quantized layer that the record lists."""
    layers = record.get("layers")
    if not isinstance(layers, Mapping) or not layers:
        raise CheckpointError("its record lists no quantized layers; it was changed by hand")
    for name, entry in layers.items():
        try:
            yield name, _form(entry)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise CheckpointError(f"record of {name}: {error}") from error


def _form(entry: Mapping[str, Any]) -> WeightLayout:
    """Return the layout in a record's entry, after a check of its types."""
    out, width = entry["shape"]
    numbers = [out, width, entry["bits"], entry["group"], entry["dimensions"]]
    flags = [entry["zero"], entry["asymmetric"]]
    scale = entry["activation_scale"]
    whole = all(type(number) is int for number in [*numbers, entry["activation_zero"]])
    if not whole or not all(type(flag) is bool for flag in flags):
        raise CheckpointError("has a value of another type; it was changed by hand")
    if scale is not None and type(scale) is not float:
        raise CheckpointError(
            "has an activation scale that is not a number; it was changed by hand"
        )
    return WeightLayout(**{**entry, "shape": (out, width)})


def _read_layer(name: str, form: WeightLayout, state: dict[str, Tensor]) -> QuantizedWeight:
    """Remove one layer's tensors from `state`, checked against its layout."""
    out, width = form.shape
    floating = form.activation == "fp8-dynamic"
    groups = (1, 1) if floating else (out, width // form.group)
    packed = form.bits < WHOLE_BYTE
    size = (-(-out * width * form.bits // 8),) if packed else (out, width)
    whole = torch.float8_e4m3fn if floating else torch.int8
    values = _pop_tensor(state, f"{name}.values", torch.uint8 if packed else whole, size)
    scale = _pop_tensor(state, f"{name}.scale", torch.bfloat16, groups).float()
    if not ((scale > 0) & scale.isfinite()).all():
        raise CheckpointError(f"{name}.scale has a value that is not positive; it is damaged")
    return QuantizedWeight(
        form=form,
        values=unpack_bits(values, form.bits, form.shape) if packed else values,
        scale=scale,
        zero=_pop_tensor(state, f"{name}.zero", torch.int8, groups) if form.zero else None,
    )


def _pop_tensor(
    state: dict[str, Tensor], name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> Tensor:
    """Remove a tensor of this type and shape from `state`, and return it."""
    tensor = state.pop(name, None)
    if tensor is None:
        raise CheckpointError(f"{name} is missing; quantize the full-precision checkpoint again")
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise CheckpointError(
            f"{name} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)} as in its "
            "record; it is damaged"
        )
    return tensor
