"""Inputs of linear layers on calibration images: ranges, samples, products, and int8 scales."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from illama_eval.quantize.layers import Quantizable, linear, run_whole
from illama_eval.quantize.rounding import round_scale
from illama_eval.subjects.subject import SubjectError

Clipping = Literal["mse", "minmax", "percentile"]

KEPT = 4096
"""Values of a layer's input that are sampled from a batch."""
BATCH = 32
"""Images per pass."""
RATIOS = tuple(step / 80 for step in range(80, 7, -1))
"""Shares of the range that the clip search tries: 1 down to 0.1."""
PERCENTILE = 0.9999
"""Share of the values inside the percentile range."""


@dataclass
class Inputs:
    """The inputs of one layer, over all calibration images."""

    largest: Tensor
    """max |x| of each channel, fp32 [in]"""
    low: float = 0.0
    high: float = 0.0
    dimensions: int = 3
    """Of the input tensor."""
    sample: list[Tensor] = field(default_factory=list)
    gram: Tensor | None = None
    """Sum of x x^T, float64 [in, in]; None unless wanted."""


@torch.no_grad()
def observe_inputs(
    subject: Quantizable, images: Tensor, names: Iterable[str], *, grams: bool = False
) -> dict[str, Inputs]:
    """Return the named layers' inputs on prepared images [image, 3, row, column].

    All tokens of the last block are included, though only one of them reaches the head.

    Raises:
        SubjectError: an input is not finite.
    """
    model = subject.model
    seen = {
        name: Inputs(largest=torch.zeros(linear(model, name).in_features, device=images.device))
        for name in names
    }
    generator = torch.Generator().manual_seed(0)
    with _hooks(model, seen, generator, grams):
        for part in torch.split(images, BATCH):
            run_whole(subject, part)
    broken = [name for name, inputs in seen.items() if not inputs.largest.isfinite().all()]
    if broken:
        raise SubjectError(
            f"calibration: the input of {broken[0]} is not finite on these images; "
            "take other images, or another epoch of the checkpoint"
        )
    return seen


@contextmanager
def _hooks(
    model: nn.Module, seen: Mapping[str, Inputs], generator: torch.Generator, grams: bool
) -> Iterator[None]:
    """Add every named layer's inputs while the context is open."""
    handles = [
        linear(model, name).register_forward_pre_hook(
            partial(_add, inputs=inputs, generator=generator, grams=grams)
        )
        for name, inputs in seen.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add(
    _: nn.Module,
    given: tuple[Tensor, ...],
    *,
    inputs: Inputs,
    generator: torch.Generator,
    grams: bool,
) -> None:
    """Add one batch of inputs."""
    tokens = given[0].detach().float()
    inputs.dimensions = tokens.ndim
    flat = tokens.flatten(0, -2)
    inputs.largest = torch.maximum(inputs.largest, flat.abs().amax(0))
    inputs.low = min(inputs.low, float(flat.min()))
    inputs.high = max(inputs.high, float(flat.max()))
    chosen = torch.randint(flat.numel(), (KEPT,), generator=generator).to(flat.device)
    inputs.sample.append(flat.flatten()[chosen])
    if grams:
        exact = flat.double()
        product = exact.T @ exact
        inputs.gram = product if inputs.gram is None else inputs.gram + product


def choose_range(inputs: Inputs, clipping: Clipping, *, asymmetric: bool) -> tuple[float, int]:
    """Return one int8 scale, a bf16 number, and zero point for all inputs of a layer.

    `mse` shrinks the range to where the squared error of the sample is least.
    """
    sample = torch.cat(inputs.sample)
    low, high = inputs.low, inputs.high
    if clipping == "percentile":
        numbers = sample.cpu().numpy()  # torch's quantile takes at most 2 to the 24th
        if asymmetric:
            tail = (1 - PERCENTILE) / 2
            low, high = map(float, np.quantile(numbers, (tail, 1 - tail)))
        else:
            high = float(np.quantile(np.abs(numbers), PERCENTILE))
            low = -high
    shares: Sequence[float] = RATIOS if clipping == "mse" else (1.0,)
    tried = [_affine(low * share, high * share, asymmetric=asymmetric) for share in shares]
    errors = [_squared_error(sample, *each) for each in tried]
    return tried[errors.index(min(errors))]


def _affine(low: float, high: float, *, asymmetric: bool) -> tuple[float, int]:
    """Return scale and zero point of int8 for a range; zero is representable."""
    low, high = min(low, 0.0), max(high, 0.0)
    if not asymmetric:
        return float(round_scale(torch.tensor(max(-low, high) / 127.5))), 0
    scale = float(round_scale(torch.tensor((high - low) / 255)))
    return scale, int(min(max(-128 - round(low / scale), -128), 127))


def _squared_error(sample: Tensor, scale: float, zero: int) -> float:
    levels = ((sample / scale).round() + zero).clamp(-128, 127)
    return float(((levels - zero) * scale - sample).square().sum())
