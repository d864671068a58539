"""Any network as a subject: logits and features, and attention where it is proven to be seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from illama.arithmetic import DTYPES
from illama.config import Dtype
from illama.files import first_line
from illama.observation import LAYER_WANTED, LayerSeen, OutputSeen, Piece
from illama.rollout import extend_rollout
from illama.transforms import Transform
from illama_eval.subjects.interleave import interleave
from illama_eval.subjects.layers import (
    AttentionError,
    Layers,
    draw_trial_images,
    find_layers,
    first_tensor,
    token_axis,
    varies,
)
from illama_eval.subjects.recording import Attention, Recorder
from illama_eval.subjects.subject import SubjectError

LIVE = 3
"""Activations of the largest size that exist at a time."""

Read = Callable[[Any, Tensor], OutputSeen]
"""Runs a network on images: its logits [image, class] and features [image, channel]; None for what
it has not."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What a trial run shows of a network."""

    classes: int
    """Outputs of the head; 0 without one."""
    largest: int
    """Numbers in its largest activation of one image."""
    shows: frozenset[str]
    layers: Layers | None
    hidden: str = ""
    """Why attention is not seen."""


@dataclass(frozen=True, kw_only=True)
class NetworkSubject:
    """A network with the transform and precision it is run with."""

    name: str
    model: nn.Module
    read: Read
    examined: Examined
    device: torch.device
    transform: Transform
    dtype: Dtype = "fp32"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Outputs of the head; 0 without one."""
        return self.examined.classes

    @property
    def shows(self) -> frozenset[str]:
        """Features; logits with a head; attention and tokens where they are proven."""
        return self.examined.shows

    @property
    def hidden(self) -> str:
        """Why attention is not seen; empty where it is."""
        return self.examined.hidden

    @property
    def prepare(self) -> Transform:
        """The network's evaluation transform."""
        return self.transform

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        """Yield the layers of normalised images where wanted, and logits and features.

        Raises:
            SubjectError: something is wanted that the network does not show.
        """
        names = frozenset(wanted)
        if names - self.shows:
            missing = min(names - self.shows)
            why = f" ({self.hidden})" if missing in LAYER_WANTED and self.hidden else ""
            raise SubjectError(f"{self.name}: shows no {missing}{why}")
        images = inputs.to(DTYPES[self.dtype])
        if names & LAYER_WANTED:
            assert self.examined.layers is not None
            watch = partial(_watch, self.model, self.examined.layers, names, images, self.read)
            yield from interleave(watch)
        elif names == {"logits"}:
            yield OutputSeen(logits=first_tensor(self.model(images)))
        else:
            yield _wanted(self.read(self.model, images), names)

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return the bytes of the maps that exist at a time, and of the largest activations."""
        layers, maps = self.examined.layers, 0
        if layers is not None and wanted & LAYER_WANTED:
            maps = (3 + len(wanted & {"softmax", "previous"})) * layers.heads * layers.tokens**2
        return 4 * (maps + LIVE * self.examined.largest)

    def _notes(self) -> list[str]:
        layers = self.examined.layers
        own = [self.hidden] if layers is None else list(layers.notes)
        return [*self.provenance.get("notes", ()), *own]

    def describe(self) -> dict[str, Any]:
        """Return name, provenance, tokens, precision and transform."""
        layers = self.examined.layers
        return {
            "name": self.name,
            **self.provenance,
            "tokens": None if layers is None else _describe_tokens(layers),
            "notes": self._notes(),
            "dtype": self.dtype,
            "transform": self.transform.describe(),
        }


def open_network(
    model: nn.Module,
    read: Read,
    *,
    name: str,
    transform: Transform,
    device: torch.device,
    dtype: Dtype = "fp32",
    provenance: Mapping[str, Any] | None = None,
) -> NetworkSubject:
    """Return a network as a subject, after a trial run on noise in fp32.

    Raises:
        SubjectError: it does not run on images of the transform's size, or returns neither logits
            nor features.
    """
    examined = examine(name, model, read, transform.image_size)
    model.to(DTYPES[dtype])
    return NetworkSubject(
        name=name,
        model=model,
        read=read,
        examined=examined,
        device=device,
        transform=transform,
        dtype=dtype,
        provenance=provenance or {},
    )


def pool(features: Tensor) -> Tensor:
    """Return [image, channel] of features by token or by pixel: their mean; others as they are."""
    if features.ndim == 4:  # noqa: PLR2004 - [image, channel, row, column]
        return features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features  # noqa: PLR2004 - by token


def examine(name: str, model: nn.Module, read: Read, size: int) -> Examined:
    """Run a network on noise and return what it shows.

    Raises:
        SubjectError: it does not run at this size, or returns neither logits nor features.
    """
    sizes = [0]

    def note(_module: object, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output[0].numel() if output.ndim else 0)

    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    images = draw_trial_images(size).to(device)
    with ExitStack() as stack, torch.no_grad():
        for module in model.modules():
            stack.callback(module.register_forward_hook(note).remove)
        try:
            seen = read(model, images)
        except Exception as error:
            raise SubjectError(
                f"{name}: does not run on {size} x {size} pixels ({first_line(error)})"
            ) from error
    _check_output(name, seen, len(images))
    shows = {key for key in ("logits", "features") if getattr(seen, key) is not None}
    try:
        layers, hidden = find_layers(model, partial(read, model), images), ""
        shows |= {"used", "softmax", "previous", "rollout"} | (
            {"tokens"} if layers.blocks else set()
        )
    except AttentionError as problem:
        layers, hidden = None, f"attention is not seen: {problem}"
    return Examined(
        classes=0 if seen.logits is None else seen.logits.shape[1],
        largest=max(sizes),
        shows=frozenset(shows),
        layers=layers,
        hidden=hidden,
    )


def _check_output(name: str, seen: OutputSeen, images: int) -> None:
    """Refuse outputs that are not one row for each image."""
    for key in ("logits", "features"):
        found = getattr(seen, key)
        if found is not None and (found.ndim != 2 or len(found) != images):  # noqa: PLR2004
            raise SubjectError(
                f"{name}: its {key} have the shape {list(found.shape)}, not [image, number]"
            )
    if seen.logits is None and seen.features is None:
        raise SubjectError(f"{name}: returns neither logits nor features")


def _watch(
    model: nn.Module,
    layers: Layers,
    names: frozenset[str],
    images: Tensor,
    read: Read,
    emit: Callable[[Piece], None],
) -> None:
    """Run the network; emit each layer as soon as its block is finished, and then the output."""
    watch = _Watch(layers, names, len(images), emit)
    with ExitStack() as stack:
        for path in set(layers.attentions):
            module = model.get_submodule(path)
            enter = module.register_forward_pre_hook(watch.enter)
            leave = module.register_forward_hook(watch.leave, always_call=True)
            stack.callback(enter.remove)
            stack.callback(leave.remove)
        for path in set(layers.blocks or layers.attentions):
            hook = model.get_submodule(path).register_forward_hook(watch.finish)
            stack.callback(hook.remove)
        output = _wanted(read(model, images), names)
    emit(output)


def _wanted(seen: OutputSeen, names: frozenset[str]) -> OutputSeen:
    """Return the output without what is not wanted."""
    return OutputSeen(
        logits=seen.logits if "logits" in names else None,
        features=seen.features if "features" in names else None,
    )


class _Watch:
    """Collects the maps of a forward pass, block by block, in the thread that runs it."""

    def __init__(
        self, layers: Layers, names: frozenset[str], images: int, emit: Callable[[Piece], None]
    ) -> None:
        self.layers, self.names, self.images, self.emit = layers, names, images, emit
        self.thread = threading.get_ident()
        self.waiting: list[Attention] = []
        self.previous: Tensor | None = None
        self.rollout: Tensor | None = None
        self.number = 0
        self.recorders: list[Recorder] = []

    def enter(self, _module: nn.Module, _args: object) -> None:
        """Begin to record, if this is the thread's own pass."""
        if threading.get_ident() == self.thread:
            self.recorders.append(Recorder(self.images, self.take))
            self.recorders[-1].__enter__()  # type: ignore[no-untyped-call]  # torch has no types

    def leave(self, _module: nn.Module, _args: object, _output: object) -> None:
        """End to record."""
        if threading.get_ident() == self.thread:
            self.recorders.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def take(self, attention: Attention) -> None:
        """Keep the attention until its block is finished.

        Raises:
            SubjectError: its mask is not that of all images.
        """
        if varies(attention.open):
            raise SubjectError(
                "attention is not seen on these images: a mask differs between images or heads"
            )
        self.waiting.append(attention)

    def finish(self, _module: nn.Module, _args: object, output: Any) -> None:
        """Emit the layers of a finished block."""
        if threading.get_ident() != self.thread:
            return
        tokens = None
        if "tokens" in self.names:
            tokens = first_tensor(output)
            axis = token_axis(tokens.shape, self.images, self.layers.tokens)
            tokens = tokens if axis == 1 else tokens.transpose(0, 1)
        while self.waiting:
            self.number += 1
            self.emit(self._layer(self.waiting.pop(0), tokens))

    def _layer(self, seen: Attention, tokens: Tensor | None) -> LayerSeen:
        """Return one layer, with what is wanted of it."""
        names, plain = self.names, _same(seen.used, seen.softmax)
        ones = torch.ones_like(seen.used[0, 0], dtype=torch.bool)
        if "rollout" in names:
            self.rollout = extend_rollout(self.rollout, seen.used)
        layer = LayerSeen(
            index=self.number,
            open=ones if seen.open is None else seen.open[0, 0],
            class_index=self.layers.class_index,
            image_tokens=self.layers.image_tokens,
            factor=ones.float() if plain else None,
            form="full" if plain else None,
            used=seen.used if "used" in names else None,
            softmax=seen.softmax if "softmax" in names else None,
            tokens=tokens,
            previous=self.previous,
            rollout=self.rollout,
        )
        self.previous = seen.used if "previous" in names else None
        return layer


def _same(one: Tensor, other: Tensor | None) -> bool:
    """Return whether two tensors are the same numbers in memory."""
    return other is not None and one.data_ptr() == other.data_ptr()


def _describe_tokens(layers: Layers) -> dict[str, Any]:
    """Return how many tokens there are, and of which kind."""
    image = layers.image_tokens
    return {
        "all": layers.tokens,
        "image": image.stop - image.start,
        "first_image_token": image.start,
        "class_token": layers.class_index,
    }
