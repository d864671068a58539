"""The linear layers of a subject: how they are called, and why one cannot be quantized.

A layer of illama's own models is a plain `nn.Linear` that is called once with its tokens. Another
network may use one in ways that a quantized weight, or a quantized input, would not follow: then it
stays in floating point, with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from illama.files import first_line
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.layers import draw_trial_images
from illama_eval.subjects.network import NetworkSubject
from illama_eval.subjects.subject import SubjectError
from illama_eval.subjects.wrap import find_head

Quantizable: TypeAlias = ModelSubject | NetworkSubject
"""What can be quantized: a subject that has a module."""

HEAD = "head"
"""As a pattern: the layer whose outputs are the classes, whatever its name; none without classes"""
MOST_DIMENSIONS = 4
"""Of an input whose one range torchao takes."""


@dataclass
class Calls:
    """How a layer was called in one pass."""

    dimensions: set[int] = field(default_factory=set)
    """Of its inputs."""
    plain: bool = True
    """Whether each call was with one tensor and nothing else."""


def linear(model: nn.Module, name: str) -> nn.Linear:
    """Return a linear layer by name."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers of a network by name."""
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, nn.Linear)}


def head_of(subject: Quantizable) -> str | None:
    """Return the name of the layer whose outputs are the classes, if there is one."""
    if isinstance(subject, ModelSubject):
        return HEAD
    return find_head(subject.model, subject.classes)


def soft_mask_of(subject: Quantizable) -> float:
    """Return the soft mask that a subject is run with; 0 for a network that has none."""
    return subject.soft_mask if isinstance(subject, ModelSubject) else 0.0


def run_whole(subject: Quantizable, images: Tensor) -> None:
    """Run a subject on prepared images to its end, so that every layer meets all its inputs."""
    wanted = {"tokens", "logits"}
    if not isinstance(subject, ModelSubject):
        wanted = {"logits" if subject.classes else "features"}
    for _ in subject.observe(images, wanted):
        pass


def unfit_layers(subject: Quantizable) -> dict[str, str]:
    """Return the linear layers that cannot be quantized, and why, after a pass over noise.

    None of a model of illama.
    """
    if isinstance(subject, ModelSubject):
        return {}
    layers = linear_layers(subject.model)
    called = watch_calls(subject, layers)
    holders = Counter(
        id(weight)
        for module in subject.model.modules()
        for weight in module._parameters.values()  # noqa: SLF001 - tied ones, too, unlike parameters()
        if weight is not None
    )
    return dict(_unfit(layers, called, holders))


def _unfit(
    layers: Mapping[str, nn.Linear], called: Mapping[str, Calls], holders: Mapping[int, int]
) -> Iterator[tuple[str, str]]:
    """Yield the layers that cannot be quantized, and why."""
    for name, layer in layers.items():
        own = layer._parameters.get("weight")  # noqa: SLF001 - not what a parametrization computes
        if own is None:
            yield name, "its weight is computed from others (a parametrization)"
        elif type(layer).forward is not nn.Linear.forward:
            yield name, f"a {type(layer).__name__}, with a product of its own"
        elif holders[id(own)] > 1:
            yield name, "its weight is tied to another layer's"
        elif not called[name].dimensions:
            yield name, "not called: its weight is read by something else, or not used"
        elif not called[name].plain:
            yield name, "called with more than its input"
        elif len(called[name].dimensions) > 1 or max(called[name].dimensions) > MOST_DIMENSIONS:
            found = " and ".join(map(str, sorted(called[name].dimensions)))
            yield name, f"called with inputs of {found} dimensions"


@torch.no_grad()
def watch_calls(subject: Quantizable, layers: Mapping[str, nn.Module]) -> dict[str, Calls]:
    """Return how layers are called in a pass over noise.

    Raises:
        SubjectError: the subject does not run.
    """
    calls = {name: Calls() for name in layers}
    with ExitStack() as stack:
        for name, layer in layers.items():
            note = partial(_note, calls=calls[name])
            stack.callback(layer.register_forward_pre_hook(note, with_kwargs=True).remove)
        try_out(subject, "as it is")
    return calls


def _note(_: nn.Module, args: tuple[Any, ...], given: Mapping[str, Any], *, calls: Calls) -> None:
    """Note one call of a layer."""
    if len(args) == 1 and not given and isinstance(args[0], Tensor):
        calls.dimensions.add(args[0].ndim)
    else:
        calls.dimensions.add(0)
        calls.plain = False


@torch.no_grad()
def try_out(subject: Quantizable, how: str) -> None:
    """Run a subject on noise.

    Raises:
        SubjectError: it does not run; `how` says in which form.
    """
    images = draw_trial_images(subject.transform.image_size).to(subject.device)
    try:
        run_whole(subject, images)
    except Exception as error:  # a network of someone else's may fail in any way
        raise SubjectError(f"{subject.name}: does not run {how} ({first_line(error)})") from error
