"""Weights to integers: nearest rounding, clip search, and GPTQ.

A group of `group` input channels of one row shares a scale (and a zero point where asymmetric):
w ~ (q - zero) * scale with q in [-2^(b-1), 2^(b-1) - 1]. The scale of the nearest rounding is
torchao's: max |w| / ((2^b - 1) / 2), or (max - min) / (2^b - 1). Every scale is rounded to bf16
before anything is rounded with it, so that a file has exactly what was measured.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Rounding = Literal["nearest", "mse", "gptq"]

SMALLEST_SCALE = torch.finfo(torch.float32).eps
SHRINK = tuple(1 - step / 40 for step in range(28))
"""Shares of a group's range that the clip search tries: 1 down to 0.325."""

DAMPING = 0.01
"""Share of the mean diagonal that is added to GPTQ's Hessian (Frantar et al. 2022)."""
BLOCK = 128
"""Columns after which GPTQ applies its corrections to all columns that follow."""

Rounded = tuple[Tensor, Tensor, Tensor | None]
"""Values int8 [out, in], scale fp32 [out, group], zero int8 [out, group] or None."""


def round_weight(
    weight: Tensor,
    bits: int,
    group: int,
    *,
    asymmetric: bool = False,
    rounding: Rounding = "nearest",
    gram: Tensor | None = None,
) -> Rounded:
    """Return a weight [out, in] as integers, scales and zero points.

    `gram` [in, in] is the sum of x x^T over the layer's inputs; GPTQ needs it.
    """
    exact = weight.detach().float()
    if rounding == "gptq":
        assert gram is not None
        return _round_gptq(exact, bits, group, asymmetric, gram.to(exact.device))
    scale, zero = choose_scale(exact, bits, group, asymmetric, clip=rounding == "mse")
    grouped = exact.view(len(exact), -1, group)
    values = _levels(grouped, scale[..., None], zero[..., None], bits)
    return values.to(torch.int8).view_as(exact), scale, _kept(zero, asymmetric)


def choose_scale(
    weight: Tensor, bits: int, group: int, asymmetric: bool, *, clip: bool
) -> tuple[Tensor, Tensor]:
    """Return scale and zero point, fp32 [out, group].

    With `clip` the range of every group is shrunk to where its squared error is least.
    """
    grouped = weight.view(len(weight), -1, group)
    low, high = grouped.amin(-1), grouped.amax(-1)
    best = _scale_of(low, high, bits, asymmetric)
    if not clip:
        return best
    least = _error(grouped, *best, bits)
    for share in SHRINK[1:]:
        tried = _scale_of(low * share, high * share, bits, asymmetric)
        error = _error(grouped, *tried, bits)
        better = error < least
        least = torch.where(better, error, least)
        best = (torch.where(better, tried[0], best[0]), torch.where(better, tried[1], best[1]))
    return best


def _scale_of(low: Tensor, high: Tensor, bits: int, asymmetric: bool) -> tuple[Tensor, Tensor]:
    """Return torchao's scale, rounded to bf16, and zero point for ranges."""
    steps = 2**bits - 1
    if not asymmetric:
        scale = round_scale(2 * torch.maximum(low.abs(), high.abs()) / steps)
        return scale, torch.zeros_like(scale)
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = round_scale((high - low) / steps)
    bottom = -(2 ** (bits - 1))
    return scale, (bottom - (low / scale).round()).clamp(bottom, bottom + steps)


def round_scale(scale: Tensor) -> Tensor:
    """Return positive scales as the nearest bf16 numbers, in fp32."""
    return scale.clamp_min(SMALLEST_SCALE).bfloat16().float()


def _levels(values: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Return the integers nearest to values, within the range of the bits."""
    half = 2 ** (bits - 1)
    return ((values * (1.0 / scale)).round() + zero).clamp(-half, half - 1)


def _error(grouped: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    levels = _levels(grouped, scale[..., None], zero[..., None], bits)
    return ((levels - zero[..., None]) * scale[..., None] - grouped).square().sum(-1)


def _kept(zero: Tensor, asymmetric: bool) -> Tensor | None:
    return zero.to(torch.int8) if asymmetric else None


def _round_gptq(weight: Tensor, bits: int, group: int, asymmetric: bool, gram: Tensor) -> Rounded:
    """Round column by column; later columns compensate the errors (Frantar et al. 2022).

    The error of column i, divided by U_ii, is subtracted from the columns after it along U's row i,
    where U is the upper Cholesky factor of the inverse of the damped Hessian. A group's scale is
    chosen, with clip search, when its first column is reached.
    """
    work, upper = _prepare_gptq(weight, gram)
    values = torch.empty_like(work)
    scales, zeros = [], []
    for start in range(0, work.shape[1], BLOCK):
        stop = min(start + BLOCK, work.shape[1])
        errors = torch.zeros_like(work[:, start:stop])
        for column in range(start, stop):
            if column % group == 0:
                settled = work[:, column : column + group].clone()
                _correct(settled, errors, upper[start:stop, column : column + group], stop - column)
                scale, zero = choose_scale(settled, bits, settled.shape[1], asymmetric, clip=True)
                scales.append(scale)
                zeros.append(zero)
            levels = _levels(work[:, column, None], scales[-1], zeros[-1], bits)[:, 0]
            values[:, column] = levels
            rounded = (levels - zeros[-1][:, 0]) * scales[-1][:, 0]
            error = (work[:, column] - rounded) / upper[column, column]
            work[:, column + 1 : stop] -= error[:, None] * upper[column, column + 1 : stop]
            errors[:, column - start] = error
        work[:, stop:] -= errors @ upper[start:stop, stop:]
    return values.to(torch.int8), torch.cat(scales, 1), _kept(torch.cat(zeros, 1), asymmetric)


def _correct(settled: Tensor, errors: Tensor, upper: Tensor, inside: int) -> None:
    """Apply this block's corrections to the columns of a group that are after the block."""
    if settled.shape[1] > inside:
        settled[:, inside:] -= errors @ upper[:, inside:]


def _prepare_gptq(weight: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return a copy of the weight, and U; channels that never fire have weight 0."""
    hessian = gram.double().clone()
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    work = weight.clone()
    work[:, dead] = 0
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return work, torch.linalg.cholesky(inverse, upper=True).float()
