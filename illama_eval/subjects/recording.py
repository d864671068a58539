"""Attention as any module computes it: the product of a map and values, recorded as it is called.

A module either calls torch's fused attention, whose map is formed here from query, key and mask, or
takes a softmax and multiplies what becomes of it with the values. Both are recognised by the calls
themselves, so no name and no layout of weights matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SOFTMAX = frozenset({torch.softmax, Tensor.softmax, functional.softmax})
PRODUCT = frozenset({torch.matmul, Tensor.matmul, torch.bmm, Tensor.bmm})
HARD = -1e4
"""A bias of at most this closes a key; torch's masks have -inf, others the lowest number."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One product of a map and values, as a module computed it."""

    used: Tensor
    """What multiplies the values, [image, head, query, key]."""
    softmax: Tensor | None
    """Softmax over all keys, of the same shape; None where the map mixes several of them."""
    values: Tensor
    """[image, head, key, channel]"""
    open: Tensor | None = None
    """Where a mask lets attention be, bool [image, head, query, key]; None without a mask."""


Substitute = Callable[[Attention], Tensor | None]
"""Takes what was recorded; what it returns replaces the product, None leaves it."""


class Recorder(TorchFunctionMode):
    """While it is active, every product of a map and values is given to `on_attention`.

    It is active in the thread that entered it, and nowhere else.
    """

    def __init__(self, images: int, on_attention: Substitute) -> None:
        super().__init__()
        self.images, self.on_attention = images, on_attention
        self._descent: dict[int, tuple[Tensor, tuple[Tensor, ...]]] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the call; record it if it is attention."""
        del types
        given = dict(kwargs or {})
        if func is functional.multi_head_attention_forward:
            with self:
                return _unwrapped(func)(*args, **given)
        if func is functional.scaled_dot_product_attention:
            return self._record_fused(*args, **given)
        result = func(*args, **given)
        if func in SOFTMAX:
            self._descent[id(result)] = (result, (result,))
        elif self._descent:
            return self._follow(func, args, result)
        return result

    def _record_fused(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **given: Any
    ) -> Tensor:
        """Return what torch's fused attention returns, unless it is replaced."""
        formed = form_map(query, key, value, *args, **given)
        seen = Attention(
            used=self._by_head(formed.used),
            softmax=None if formed.softmax is None else self._by_head(formed.softmax),
            values=self._by_head(formed.values),
            open=None if formed.open is None else self._by_head(formed.open),
        )
        replaced = self.on_attention(seen)
        if replaced is not None:
            return replaced.to(value.dtype).reshape(*query.shape[:-1], value.shape[-1])
        return functional.scaled_dot_product_attention(query, key, value, *args, **given)

    def _follow(self, func: Any, args: tuple[Any, ...], result: Any) -> Any:
        """Record the product of what descends from a softmax; else note the result as descended."""
        parents = [self._descent[id(each)] for each in args if id(each) in self._descent]
        if not parents or not isinstance(result, Tensor):
            return result
        softmaxes = tuple({id(one): one for _, found in parents for one in found}.values())
        if _multiplies_rows(func, args, softmaxes[0].shape) and id(args[0]) in self._descent:
            self._descent.clear()
            return self._record_product(args[0], args[1], softmaxes, result)
        if result.numel() == softmaxes[0].numel():
            self._descent[id(result)] = (result, softmaxes)
        return result

    def _record_product(
        self, used: Tensor, values: Tensor, softmaxes: tuple[Tensor, ...], result: Tensor
    ) -> Tensor:
        """Return the product, unless it is replaced."""
        alone = len(softmaxes) == 1 and softmaxes[0].shape == used.shape
        seen = Attention(
            used=self._by_head(used),
            softmax=self._by_head(softmaxes[0]) if alone else None,
            values=self._by_head(values),
        )
        replaced = self.on_attention(seen)
        return result if replaced is None else replaced.reshape(result.shape)

    def _by_head(self, tensor: Tensor) -> Tensor:
        """Return [image, head, ...] of [image * head, ...]; others as they are."""
        if tensor.ndim != 3 or tensor.shape[0] % self.images:  # noqa: PLR2004
            return tensor
        return tensor.reshape(self.images, -1, *tensor.shape[1:])


def _multiplies_rows(func: Any, args: tuple[Any, ...], shape: torch.Size) -> bool:
    """Return whether a call multiplies a map of this shape with something from the right."""
    return func in PRODUCT and len(args) > 1 and args[0].shape[-2:] == shape[-2:]


def form_map(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Attention:
    """Return the attention of a call of `torch.nn.functional.scaled_dot_product_attention`.

    The map is computed in float32 at least. Where a mask closes keys, `softmax` is that over all.
    """
    del dropout_p
    if enable_gqa:
        shared = query.shape[1] // key.shape[1]
        key, value = (each.repeat_interleave(shared, dim=1) for each in (key, value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    exact = torch.promote_types(query.dtype, torch.float32)
    scores = (query.to(exact) * factor) @ key.to(exact).transpose(-2, -1)
    bias, open_ = _split_mask(attn_mask, scores.ndim)
    if is_causal:
        open_ = torch.ones_like(scores, dtype=torch.bool).tril()
    if bias is not None:
        scores += bias
    open_ = None if open_ is None else open_.expand_as(scores)
    if open_ is None:
        used = softmax = scores.softmax(-1)
    else:
        softmax, used = scores.softmax(-1), scores.masked_fill_(~open_, -torch.inf).softmax(-1)
    return Attention(used=used, softmax=softmax, values=value.to(exact), open=open_)


def _split_mask(mask: Tensor | None, axes: int) -> tuple[Tensor | None, Tensor | None]:
    """Return what a mask adds to open keys, and which keys are open; None where it does neither."""
    if mask is None:
        return None, None
    open_ = mask if mask.dtype == torch.bool else mask > HARD
    bias = None if mask.dtype == torch.bool else mask.masked_fill(~open_, 0)
    while open_.ndim < axes:
        open_ = open_.unsqueeze(0)
    return bias, None if bool(open_.all()) else open_


def _unwrapped(func: Any) -> FunctionType:
    """Return a function of torch.nn.functional whose inner calls reach the active mode.

    Such a function hands itself to the mode before it begins; the copy does not.
    """
    names = {**func.__globals__, "has_torch_function": lambda _: False}
    copy = FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy
