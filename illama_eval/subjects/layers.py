"""The layers of any vision transformer: found by what its modules compute, and proven.

A module counts as a layer's attention only if its output, rebuilt from the recorded map and values,
is its output, and if a row of the map decides that token of the output and no other. What is not
proven is refused, with the module's name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from illama_eval.subjects.recording import Attention, Recorder, Substitute

TOLERANCE = 1e-5
"""Largest difference of a rebuilt output, relative to the largest number in the output."""
TRIAL_IMAGES = 3
"""Random images: one, the same with another first corner, and with another last corner."""
CLASS_TOKEN = re.compile(r"(cls|class)_?(token|embed)")
"""Names of the parameter that holds a class token."""


class AttentionError(ValueError):
    """Attention that cannot be shown exactly; the message says why, and in which module."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Where a model computes the attention of its layers, and what its tokens are."""

    attentions: tuple[str, ...]
    """Names of the modules, in the order of their calls."""
    blocks: tuple[str, ...]
    """Names of the modules whose output is that of each layer's block."""
    heads: int
    """Heads of the layer that has most."""
    tokens: int
    class_index: int | None
    """Index of the class token; None where there is none."""
    image_tokens: slice
    """Which tokens are the image's, row by row; all others are class, register and the like."""
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Visit:
    """One call of a module that computed attention itself, not in a module inside it."""

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    given: dict[str, Any]
    output: Tensor | None = None
    shapes: list[tuple[torch.Size, torch.Size]] = field(default_factory=list)
    """Of the map and of the values, for each attention in the call."""
    mixed: bool = False
    """Whether a map descends from several softmaxes."""
    varying: bool = False
    """Whether a mask differs between images or heads."""

    def replay(self, substitute: Substitute) -> Tensor:
        """Return the output of the same call with what `substitute` puts in place of a product."""
        with torch.no_grad(), Recorder(TRIAL_IMAGES, substitute):
            return first_tensor(self.module(*self.args, **self.given))


def find_layers(module: nn.Module, forward: Callable[[Tensor], object], images: Tensor) -> Layers:
    """Return the layers of a model that runs by `forward`, seen on trial images.

    Raises:
        AttentionError: attention is not found, or not exactly seen.
    """
    trace = _Trace(module)
    trace.run(forward, images)
    square = [visit for visit in trace.visits if _is_square(visit)]
    _check_kind(trace.visits, square)
    for visit in square:
        _prove(visit)
    paths = [visit.path for visit in square]
    tokens = square[0].shapes[0][0][-1]
    class_index, image_tokens = _find_tokens(module, square[0], tokens)
    left_out = sorted({visit.path for visit in trace.visits} - set(paths))
    return Layers(
        attentions=tuple(paths),
        blocks=_find_blocks(paths, trace.shapes, tokens),
        heads=max(visit.shapes[0][0][1] for visit in square),
        tokens=tokens,
        class_index=class_index,
        image_tokens=image_tokens,
        notes=_describe(square, left_out),
    )


def draw_trial_images(size: int) -> Tensor:
    """Return an image of noise, and copies with another first and last corner, [3, 3, size, size].

    A few pixels of a corner belong to one patch, which tells where the image's tokens begin and
    end.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, size, size, generator=generator).repeat(TRIAL_IMAGES, 1, 1, 1)
    corner = max(1, size // 64)
    images[1, :, :corner, :corner] += 10
    images[2, :, -corner:, -corner:] += 10
    return images


def first_tensor(output: Any) -> Tensor:
    """Return the tensor that a module returns, or the first of several: `logits` of a dictionary.

    Raises:
        AttentionError: there is none.
    """
    found = output
    while not isinstance(found, Tensor):
        if isinstance(found, dict):
            found = (found["logits"],) if "logits" in found else tuple(found.values())
        if not isinstance(found, tuple | list) or not found:
            raise AttentionError(f"a module returns {type(output).__name__}, not a tensor")
        found = found[0]
    return found


def varies(open_: Tensor | None) -> bool:
    """Return whether a mask [image, head, query, key] differs between images or heads."""
    return open_ is not None and not bool((open_ == open_[:1, :1]).all())


def token_axis(shape: Sequence[int], images: int, tokens: int) -> int | None:
    """Return which axis of [image, token, channel] or [token, image, channel] counts tokens."""
    if len(shape) != 3:  # noqa: PLR2004 - image, token, channel
        return None
    if tuple(shape[:2]) == (images, tokens):
        return 1
    return 0 if tuple(shape[:2]) == (tokens, images) else None


class _Trace:
    """What happens in one forward pass: the calls with attention, and the shapes of all outputs."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.visits: list[_Visit] = []
        self.shapes: dict[str, torch.Size] = {}
        self._stack: list[_Visit] = []

    def run(self, forward: Callable[[Tensor], object], images: Tensor) -> None:
        """Run the model with all its modules watched."""
        handles = []
        for path, module in self.module.named_modules():
            enter, leave = self._watch(path, module)
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
        whole = _Visit(path="", module=self.module, args=(images,), given={})
        self._stack = [whole]
        try:
            with torch.no_grad(), Recorder(TRIAL_IMAGES, self._note):
                forward(images)
        finally:
            for handle in handles:
                handle.remove()
        if whole.shapes:
            self.visits.append(whole)

    def _watch(self, path: str, module: nn.Module) -> tuple[Callable[..., None], ...]:
        def enter(_: object, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            self._stack.append(_Visit(path=path, module=module, args=args, given=given))

        def leave(_module: object, _args: object, output: Any) -> None:
            visit = self._stack.pop()
            if isinstance(output, Tensor | tuple | list | dict) and len(output):
                tensor = first_tensor(output)
                self.shapes[path] = tensor.shape
                if visit.shapes:
                    visit.output = tensor
            if visit.shapes:
                self.visits.append(visit)

        return enter, leave

    def _note(self, attention: Attention) -> None:
        visit = self._stack[-1]
        visit.shapes.append((attention.used.shape, attention.values.shape))
        visit.mixed |= attention.softmax is None
        visit.varying |= varies(attention.open)


def _is_square(visit: _Visit) -> bool:
    """Return whether all maps of a call are [image, head, token, token] of one size."""
    return all(len(shape) > 1 and shape[-1] == shape[-2] > 1 for shape, _ in visit.shapes)


def _check_kind(visits: Sequence[_Visit], square: Sequence[_Visit]) -> None:
    """Refuse what is no attention between the same tokens in every layer."""
    if not visits:
        raise AttentionError("no module multiplies a softmax or torch's attention with values")
    for visit in square:
        shape = visit.shapes[0][0]
        if len(shape) != 4 or shape[0] != TRIAL_IMAGES:  # noqa: PLR2004 - [image, head, query, key]
            raise AttentionError(
                f"{visit.path}: attends within windows of {shape[-1]} tokens, not between all"
            )
    if not square:
        path, shape = visits[0].path, visits[0].shapes[0][0]
        raise AttentionError(
            f"{path}: attends from {shape[-2]} queries to {shape[-1]} keys, not between the same "
            "tokens"
        )
    numbers = {visit.shapes[0][0][-1]: visit.path for visit in square}
    if len(numbers) > 1:
        (one, first), (two, second) = list(numbers.items())[:2]
        raise AttentionError(
            f"{second}: hierarchical, with {two} tokens where {first} has {one}; a map of one size "
            "for all layers is needed"
        )


def _prove(visit: _Visit) -> None:
    """Refuse a module whose output is not that of the recorded map and values."""
    name, expected = visit.path or "the model", visit.output
    if len(visit.shapes) > 1:
        raise AttentionError(f"{name}: computes {len(visit.shapes)} attention maps in one call")
    if visit.mixed:
        raise AttentionError(f"{name}: its map is mixed from several softmaxes")
    if visit.varying:
        raise AttentionError(f"{name}: its mask differs between images or heads")
    tokens = visit.shapes[0][0][-1]
    axis = None if expected is None else token_axis(expected.shape, TRIAL_IMAGES, tokens)
    if expected is not None and len(expected) != TRIAL_IMAGES and len(expected) % TRIAL_IMAGES == 0:
        raise AttentionError(f"{name}: attends within windows of {tokens} tokens, not between all")
    if expected is None or axis is None:
        raise AttentionError(f"{name}: its map of {tokens} x {tokens} is not one of its tokens")
    rebuilt = visit.replay(lambda seen: seen.used @ seen.values)
    error = float((rebuilt - expected).abs().max() / expected.abs().max())
    if not error <= TOLERANCE:
        raise AttentionError(f"{name}: its output rebuilt from map and values is {error:.1e} off")
    row = tokens // 3
    changed = (visit.replay(_without_row(row)) - rebuilt).abs().movedim(axis, 0).flatten(1).amax(1)
    if changed.nonzero().flatten().tolist() != [row]:
        raise AttentionError(f"{name}: a row of its map does not decide one token of its output")


def _without_row(row: int) -> Substitute:
    """Return what puts zeros in place of one row of the map."""

    def substitute(seen: Attention) -> Tensor:
        used = seen.used.clone()
        used[..., row, :] = 0
        return used @ seen.values

    return substitute


def _find_blocks(
    paths: Sequence[str], shapes: dict[str, torch.Size], tokens: int
) -> tuple[str, ...]:
    """Return the block of every layer: the part of the model just below what holds them all.

    Empty if the outputs of these modules are no tokens.
    """
    parts = [path.split(".") for path in paths]
    shared = 0
    while all(len(each) > shared and each[shared] == parts[0][shared] for each in parts):
        shared += 1
    several = len(set(paths)) > 1
    blocks = [".".join(each[: shared + 1] if several else each[:-1]) for each in parts]
    seen = (block in shapes and token_axis(shapes[block], TRIAL_IMAGES, tokens) for block in blocks)
    return tuple(blocks) if all(axis is not None and axis is not False for axis in seen) else ()


def _find_tokens(module: nn.Module, first: _Visit, tokens: int) -> tuple[int | None, slice]:
    """Return the index of the class token, and which tokens are the image's.

    Trial images differ in their corners, and so in the first and the last of the image's tokens;
    where that shows no square of tokens, the largest square is taken, behind the others.
    """
    side = math.isqrt(tokens)
    start, stop = tokens - side**2, tokens
    inputs = next(
        (each for each in (*first.args, *first.given.values()) if _is_tokens(each, tokens)), None
    )
    if inputs is not None:
        by_image = inputs if inputs.shape[0] == TRIAL_IMAGES else inputs.transpose(0, 1)
        change = (by_image[1:] - by_image[0]).norm(dim=-1).argmax(-1).tolist()
        found = change[1] + 1 - change[0]
        if found > 0 and math.isqrt(found) ** 2 == found:
            start, stop = change[0], change[1] + 1
    named = any(CLASS_TOKEN.search(name) for name, _ in module.named_parameters())
    beside = start or tokens - stop
    index = (0 if start else tokens - 1) if named and beside else None
    return index, slice(start, stop)


def _is_tokens(value: Any, tokens: int) -> bool:
    return isinstance(value, Tensor) and token_axis(value.shape, TRIAL_IMAGES, tokens) is not None


def _describe(square: Sequence[_Visit], left_out: Sequence[str]) -> tuple[str, ...]:
    """Return notes on what is seen, and on attention that is between other tokens."""
    notes = [f"attention of {len(square)} layers is seen; their outputs are rebuilt from it"]
    if left_out:
        notes.append(f"not among the layers, as its maps are not square: {', '.join(left_out)}")
    return tuple(notes)
