"""Sensitivity: quantize one group of layers at a time, and measure the divergence of the logits.

The inputs of all blocks of a model of illama are kept from one exact pass; a swap in block i runs
only blocks i to the end. Another network is run as a whole for every swap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from illama.checkpoint.quantized import install
from illama.checkpoint.quantized_weight import QuantizedWeight
from illama.model import Model
from illama.observation import OutputSeen, present
from illama_eval.bootstrap import weights_for
from illama_eval.functional.predictions import kl_divergence
from illama_eval.quantize.activations import observe_inputs
from illama_eval.quantize.calibration import CalibrationSet
from illama_eval.quantize.layers import Quantizable, linear
from illama_eval.quantize.ptq import quantize_layer
from illama_eval.quantize.schemes import Plan, QuantizationConfig, make_plan
from illama_eval.results import At, Row
from illama_eval.study import Metric, row
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import SubjectError

STUDY = "sensitivity"
METRICS: Mapping[str, Metric] = {
    "kl": Metric(unit="nats", better="lower", tolerance=1e-3),
    "flips": Metric(better="lower", tolerance=1e-2),
}
"""Name and metrics of the study in the run."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "qkv": ("attention.qkv",),
    "projection": ("attention.projection",),
    "gate + up": ("feed_forward.gate", "feed_forward.up"),
    "down": ("feed_forward.down",),
}
"""Layers of a block that are swapped together; a GELU block has no gate."""
IMAGES = 64
"""Images on which layers are compared."""
CHUNK = 16
"""Images whose block inputs are kept at a time."""


@dataclass(frozen=True)
class Group:
    """Layers that are swapped together."""

    at: At
    """Layer from 1 and kind; the head has no layer. In a network that is no model of illama the
    kind is the layer's name with `*` for its first number, which is the layer's from 0."""
    layers: tuple[str, ...]
    block: int
    """From 0; one more than the last for the head. 0 where the network is run as a whole."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Effect of one swap on the logits of each image."""

    group: Group
    scheme: str
    divergence: Tensor
    """KL(exact || swapped) in nats, float64 [image]."""
    flipped: Tensor
    """Whether the predicted class changed, bool [image]."""


def group_layers(model: nn.Module, plan: Plan) -> list[Group]:
    """Return the groups of the planned layers, in the order of depth."""
    if not isinstance(model, Model):
        return [_alone(name) for name in plan.chosen]
    groups = []
    for number in range(model.config.depth):
        for kind, parts in KINDS.items():
            layers = tuple(
                name for part in parts if (name := f"blocks.{number}.{part}") in plan.chosen
            )
            if layers:
                at: At = {"layer": number + 1, "kind": kind}
                groups.append(Group(at=at, layers=layers, block=number))
    if "head" in plan.chosen:
        groups.append(Group(at={"kind": "head"}, layers=("head",), block=model.config.depth))
    return groups


def _alone(name: str) -> Group:
    """Return the group of one layer of any network, placed by its name."""
    parts = name.split(".")
    number = next((part for part in parts if part.isdecimal()), None)
    at: At = {"kind": name}
    if number is not None:
        parts[parts.index(number)] = "*"
        at = {"layer": int(number) + 1, "kind": ".".join(parts)}
    return Group(at=at, layers=(name,), block=0)


@torch.inference_mode()
def find_effects(
    subject: Quantizable,
    images: Tensor,
    config: QuantizationConfig,
    calibration: CalibrationSet | None = None,
) -> list[Effect]:
    """Return the effect of quantizing each group alone, on prepared images.

    Raises:
        SubjectError: the config cannot be done here, or there are no classes to diverge.
    """
    if not subject.classes:
        raise SubjectError(
            f"{subject.name}: sensitivity is the divergence of the answers, and this network has "
            "no head; quantize it as a whole"
        )
    model = subject.model
    plan = make_plan(subject, config)
    weights = quantize_alone(subject, plan, config, calibration)
    groups = group_layers(model, plan)
    found: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for part in torch.split(images, CHUNK):
        exact, run_from = _prepare(subject, part)
        for number, group in enumerate(groups):
            with _swapped(model, {name: weights[name] for name in group.layers}):
                logits = run_from(group.block)
            found.setdefault(number, []).append(_compare(exact, logits))
    return [
        Effect(
            group=groups[number],
            scheme=config.scheme,
            divergence=torch.cat([divergence for divergence, _ in parts]),
            flipped=torch.cat([flipped for _, flipped in parts]),
        )
        for number, parts in found.items()
    ]


def quantize_alone(
    subject: Quantizable, plan: Plan, config: QuantizationConfig, calibration: CalibrationSet | None
) -> dict[str, QuantizedWeight]:
    """Return every layer's quantized weight, each fitted to inputs of the exact model.

    Raises:
        SubjectError: the config smooths, which changes several layers at once, or it needs
            calibration images and there are none.
    """
    if config.smooth is not None:
        raise SubjectError("--smooth changes several layers at once; leave it out here")
    inputs = {}
    if config.needs_images:
        if calibration is None:
            raise SubjectError(f"{config.needs_images} needs calibration images; there are none")
        grams = config.rounding == "gptq"
        inputs = observe_inputs(subject, calibration.images, plan.chosen, grams=grams)
    weights = {}
    for name, scheme in plan.chosen.items():
        layer = linear(subject.model, name)
        weights[name] = quantize_layer(layer, scheme, config, inputs.get(name))
    return weights


def _prepare(subject: Quantizable, images: Tensor) -> tuple[Tensor, Callable[[int], Tensor]]:
    """Return the exact logits, and what computes them again from a block on."""
    if isinstance(subject, ModelSubject):
        entering, exact = _keep_inputs(subject.model, images, subject.soft_mask)
        return exact, partial(_run_from, subject.model, entering, soft_mask=subject.soft_mask)

    def run_from(_block: int) -> Tensor:
        (seen,) = subject.observe(images, {"logits"})
        assert isinstance(seen, OutputSeen)
        return present(seen.logits, "logits")

    return run_from(0), run_from


def _keep_inputs(model: Model, images: Tensor, soft_mask: float) -> tuple[list[Tensor], Tensor]:
    """Return the tokens that enter each block, the feature that enters the head, and logits."""
    entering = [model.embed(images)]
    path = model.resolve_path(images.device)
    for block in model.blocks[:-1]:
        entering.append(block(entering[-1], model.masking, model.rotary, soft_mask, path=path))
    feature = model.finish(entering[-1], soft_mask, first=len(model.blocks) - 1)
    return [*entering, feature], model.head(feature)


def _run_from(model: Model, entering: Sequence[Tensor], block: int, *, soft_mask: float) -> Tensor:
    """Return the logits, computed from block `block` on."""
    inside = block < len(model.blocks)
    feature = model.finish(entering[block], soft_mask, first=block) if inside else entering[block]
    logits: Tensor = model.head(feature)
    return logits


@contextmanager
def _swapped(model: nn.Module, weights: Mapping[str, QuantizedWeight]) -> Iterator[None]:
    """Run with some layers quantized, and restore the exact ones afterwards."""
    before = {name: linear(model, name).weight for name in weights}
    handles = install(model, weights)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, weight in before.items():
            linear(model, name).weight = weight


def _compare(exact: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(exact || logits) and whether the predicted class changed, [image]."""
    return kl_divergence(exact.double(), logits.double()), exact.argmax(-1) != logits.argmax(-1)


def effect_rows(
    effects: Sequence[Effect], ids: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Row]:
    """Yield divergence and flips of every swap, with intervals.

    `ids` are those of the images, and `groups` those that they come in, as in the source.
    """
    weights = weights_for(ids, groups)
    for effect in effects:
        at = {**effect.group.at, "scheme": effect.scheme}
        for metric, values in (("kl", effect.divergence), ("flips", effect.flipped)):
            mean = (weights @ values.cpu().double()) / weights.sum(1)
            yield row(metric, mean, len(ids), declared=METRICS[metric], at=at)
