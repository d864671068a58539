"""Scenes of known truth for `coverage.py`: what a model shows of fresh images, made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from illama.observation import Batch, Changed, LayerSeen, OutputSeen, Piece, SegmentsSeen
from illama.rollout import extend_rollout
from illama_eval.bootstrap import weights_of
from illama_eval.cue_conflict import Observer
from illama_eval.studies import STUDIES
from illama_eval.studies.anytime import Anytime
from illama_eval.studies.calibration import Calibration
from illama_eval.studies.rank import Rank
from illama_eval.studies.segmentation import Segmentation
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.study import Study, Sums, accumulate

KNOWN, SEVEN = 20_000, 7
"""Pictures that the observer has seen, and of ten, how many it gets right."""
LEAKING = 0.8
"""Share of the images whose earlier states change at all."""
CLASSES, SIDE, HEADS, CHANNELS = 10, 4, 2, 8
TOKENS = SIDE**2 + 1
"""The patches, and the class token behind them."""


class Shown(NamedTuple):
    """What a model shows of images, and what is known of them."""

    pieces: tuple[Piece, ...]
    labels: Tensor
    cues: Tensor | None = None
    masks: tuple[Tensor, ...] | None = None
    chance: Tensor | None = None
    """Of each class to be the true one, [image, class]."""
    numbers: Tensor | None = None
    """Of the images among those that an observer knows."""


@dataclass(frozen=True)
class Scene:
    """Models and images of known truth."""

    name: str
    study: Study
    show: Callable[[torch.Generator, int], Shown]
    sharpness: float
    """Factor by which logits are too large, where they are."""


def _draws(random: torch.Generator, images: int) -> Callable[..., Tensor]:
    """Return a function that draws normal numbers of a shape for each image."""
    return lambda *shape: torch.randn(images, *shape, generator=random)


def show_logits(gain: float, sharpness: float) -> Callable[[torch.Generator, int], Shown]:
    """Return a model whose labels follow softmax(logits / sharpness)."""

    def show(random: torch.Generator, images: int) -> Shown:
        true = gain * torch.randn(images, CLASSES, generator=random, dtype=torch.float64)
        chance = true.softmax(-1)
        labels = torch.multinomial(chance, 1, generator=random)[:, 0]
        return Shown((OutputSeen(logits=(sharpness * true).float()),), labels, chance=chance)

    return show


def show_pairs(noise: float) -> Callable[[torch.Generator, int], Shown]:
    """Return a model beside the first one: all that is compared differs by noise, more on some."""

    def show(random: torch.Generator, images: int) -> Shown:
        draw = _draws(random, images)
        first, size = 3 * draw(CLASSES), noise * (0.7 * draw(1)).exp()
        tokens = draw(TOKENS, CHANNELS)
        features = draw(CHANNELS)
        output = OutputSeen(
            logits=first + size * draw(CLASSES),
            features=features + size * draw(CHANNELS),
            reference=OutputSeen(logits=first, features=features),
        )
        seen = _layer(1, torch.zeros(images, HEADS, TOKENS, TOKENS), tokens=tokens)
        moved = tokens + size[..., None] * draw(TOKENS, CHANNELS)
        return Shown(
            (replace(seen, tokens=moved, reference=seen), output),
            torch.zeros(images, dtype=torch.int64),
        )

    return show


def show_attention(strength: float, outliers: float) -> Callable[[torch.Generator, int], Shown]:
    """Return a causal model of two layers, whose images differ in all that is measured."""

    def show(random: torch.Generator, images: int) -> Shown:
        draw = _draws(random, images)
        fixed = torch.randn(HEADS, TOKENS, TOKENS, generator=torch.Generator().manual_seed(7))
        own = draw(HEADS, TOKENS, TOKENS) + 1.5 * draw(1, 1, TOKENS)
        first, last = (
            (strength * (fixed + 0.5 * own + 0.3 * draw(HEADS, TOKENS, TOKENS))).softmax(-1)
            for _ in range(2)
        )
        tall = (torch.rand(images, 1, 1, generator=random) < outliers) * (draw(TOKENS, 1) > 1) * 9
        behind = torch.rand(images, SIDE, SIDE, generator=random) < torch.rand(
            images, 1, 1, generator=random
        )
        one = _layer(1, first, tokens=draw(TOKENS, CHANNELS), background=behind)
        two = _layer(
            2, last, tokens=draw(TOKENS, CHANNELS) + tall, previous=first, background=behind
        )
        assert one.used is not None
        assert two.used is not None
        through = extend_rollout(None, one.used)
        layers = (
            replace(one, rollout=through),
            replace(two, rollout=extend_rollout(through, two.used)),
        )
        features = OutputSeen(features=2 + draw(CHANNELS) * (1 + (0.5 * draw(1)).exp()))
        return Shown((*layers, features), torch.zeros(images, dtype=torch.int64))

    return show


def show_replaced(leak: float) -> Callable[[torch.Generator, int], Shown]:
    """Return a model whose earlier states change, by other amounts, with later patches."""

    def show(random: torch.Generator, images: int) -> Shown:
        draw = _draws(random, images)
        tokens, kept = draw(TOKENS, CHANNELS), torch.randint(1, 4, (images,), generator=random)
        plain = _layer(1, draw(HEADS, TOKENS, TOKENS).softmax(-1), tokens=tokens)
        leaks = torch.rand(images, 1, 1, generator=random) < LEAKING
        moved = tokens + leaks * leak * draw(1, 1).exp() * draw(TOKENS, CHANNELS)
        changed = Changed(
            probe=STUDIES["causality"]().probes[0].name, kept=4 * kept, original=plain
        )
        return Shown(
            (plain, replace(plain, tokens=moved, changed=changed), OutputSeen()),
            torch.zeros(images, dtype=torch.int64),
        )

    return show


def show_lens(signal: float) -> Callable[[torch.Generator, int], Shown]:
    """Return a model whose states and readouts hold so much of the class."""

    def show(random: torch.Generator, images: int) -> Shown:
        draw = _draws(random, images)
        labels = torch.randint(0, CLASSES, (images,), generator=random)
        truth = torch.nn.functional.one_hot(labels, CLASSES).float()
        tokens = draw(TOKENS, CLASSES) + signal * truth[:, None]
        seen = _layer(1, torch.zeros(images, HEADS, TOKENS, TOKENS), tokens=tokens)
        lens = draw(2, CLASSES) + signal * truth[:, None]
        return Shown((replace(seen, lens=lens), OutputSeen()), labels)

    return show


def show_parts(gain: float, sharpness: float) -> Callable[[torch.Generator, int], Shown]:
    """Return an over-confident model that knows less of the class from a part of the image."""
    show_whole = show_logits(gain, sharpness)

    def show(random: torch.Generator, images: int) -> Shown:
        shown = show_whole(random, images)
        (whole,) = shown.pieces
        assert isinstance(whole, OutputSeen)
        assert whole.logits is not None
        pieces: list[Piece] = [whole]
        for probe in Anytime().probes:
            noise = gain * sharpness * torch.randn(images, CLASSES, generator=random)
            changed = Changed(probe=probe.name, kept=torch.ones(images), original=whole)
            part = probe.kept[0] * whole.logits + (1 - probe.kept[0]) * noise
            pieces.append(OutputSeen(logits=part, changed=changed))
        return Shown(tuple(pieces), shown.labels)

    return show


def _layer(index: int, softmax: Tensor, **more: Any) -> LayerSeen:
    factor = torch.ones(TOKENS, TOKENS).tril()
    previous = more.pop("previous", None)
    return LayerSeen(
        index=index,
        open=factor.bool(),
        class_index=TOKENS - 1,
        image_tokens=slice(0, TOKENS - 1),
        factor=factor,
        softmax=softmax,
        used=softmax * factor,
        previous=None if previous is None else previous * factor,
        **more,
    )


def observer() -> Observer:
    """Return one who sees the shape of seven pictures in ten, those of a number below seven."""
    shapes = {number: number % CLASSES for number in range(KNOWN)}
    said = {
        f"{number}": shape if number // CLASSES % 10 < SEVEN else (shape + 1) % CLASSES
        for number, shape in shapes.items()
    }
    return Observer(name="somebody", kind="human", sha256="", decisions=said)


def show_cues(shape: float, texture: float) -> Callable[[torch.Generator, int], Shown]:
    """Return a model that decides by shape, by texture, or otherwise, with these chances.

    It decides by shape twice as often where the observer does.
    """

    def show(random: torch.Generator, images: int) -> Shown:
        numbers = torch.randperm(KNOWN, generator=random)[:images]
        seen = numbers // CLASSES % 10 < SEVEN
        cues = torch.stack(
            (numbers % CLASSES, torch.randint(0, CLASSES, (images,), generator=random)), 1
        )
        other = torch.randint(0, CLASSES, (images,), generator=random)
        chance, by_shape = torch.rand(images, generator=random), shape * (1 + seen)
        by_texture = torch.where(chance < by_shape + texture, cues[:, 1], other)
        chosen = torch.where(chance < by_shape, cues[:, 0], by_texture)
        logits = 5 * torch.nn.functional.one_hot(chosen, CLASSES).float()
        return Shown((OutputSeen(logits=logits),), cues[:, 0], cues=cues, numbers=numbers)

    return show


def show_segments(random: torch.Generator, images: int) -> Shown:
    """Return maps of patches of classes, some rare, right in three pixels of four."""
    chance = torch.tensor([0.5, 0.3, 0.15, 0.05]).expand(images, 4)
    label = torch.multinomial(chance, 4, replacement=True, generator=random).repeat(1, 4)
    wrong = torch.randint(0, 4, label.shape, generator=random)
    hit = torch.rand(images, 1, generator=random).sqrt() > torch.rand(label.shape, generator=random)
    maps = torch.where(hit, label, wrong).reshape(-1, 4, 4)
    pieces = tuple(
        SegmentsSeen(mode=mode, predicted=tuple(maps)) for mode in ("whole", "slide", "multiscale")
    )
    return Shown(pieces, label[:, 0], masks=tuple(label.reshape(-1, 4, 4)))


def scenes() -> dict[str, tuple[Scene, ...]]:
    """Return the scenes of every study."""
    logits = {
        "calibrated, 6 of 10 right": (2.0, 1.0),
        "over-confident, 8 of 10 right": (5.0, 1.6),
        "under-confident, 9 of 10 right": (12.0, 0.5),
        "sharp, 97 of 100 right": (40.0, 0.6),
    }
    categories = tuple((f"category {i}", (i,)) for i in range(CLASSES))
    cues = ShapeBias(categories=categories, observers=(observer(),))
    attention = {"soft attention": (0.7, 0.3), "sharp attention": (2.5, 0.05)}
    return {
        "accuracy": _each(STUDIES["accuracy"](), logits, show_logits),
        "calibration": (
            *_each(Calibration(), logits, show_logits),
            *_each(Calibration(split="first-half"), dict([*logits.items()][1:2]), show_logits),
        ),
        "shape_bias": _each(
            cues, {"by texture": (0.15, 0.6), "hardly by shape": (0.01, 0.9)}, show_cues
        ),
        "rank": _each(Rank(), attention, show_attention),
        "collapse": _each(STUDIES["collapse"](), attention, show_attention),
        "causality": _each(
            STUDIES["causality"](), {"small leak": (0.01,), "large leak": (1.0,)}, show_replaced
        ),
        "lens": _each(STUDIES["lens"](), {"little": (1.0,), "nearly all": (4.0,)}, show_lens),
        "anytime": _each(
            Anytime(), {"7 of 10 right": (4.0, 2.0), "9 of 10 right": (12.0, 1.5)}, show_parts
        ),
        "distance": _each(STUDIES["distance"](), attention, show_attention),
        "agreement": _each(STUDIES["agreement"](), {"close": (0.05,), "far": (1.0,)}, show_pairs),
        "feature_agreement": _each(
            STUDIES["feature_agreement"](), {"close": (0.05,), "far": (1.0,)}, show_pairs
        ),
        "segmentation": (Scene("patches", Segmentation(names=tuple("abcd")), show_segments, 1.0),),
    }


def _each(
    study: Study, named: Mapping[str, Sequence[float]], show: Callable[..., Any]
) -> tuple[Scene, ...]:
    return tuple(Scene(name, study, show(*numbers), numbers[-1]) for name, numbers in named.items())


def observe(scene: Scene, random: torch.Generator, images: int, *, once: bool = False) -> Sums:
    """Return a study's sums over fresh images; `once` without replicates, for the truth."""
    shown = scene.show(random, images)
    numbers = torch.arange(images) if shown.numbers is None else shown.numbers
    keys = torch.randint(-(2**63), 2**63 - 1, (images,), generator=random)
    batch = Batch(
        ids=tuple(f"i/{number}" for number in numbers.tolist()),
        labels=shown.labels,
        positions=torch.arange(images),
        order=keys.argsort().argsort(),
        keys=keys,
        weights=torch.ones(1, images, dtype=torch.float64) if once else weights_of(keys),
        count=images,
        cues=shown.cues,
        masks=shown.masks,
    )
    total: Sums = {}
    for piece in shown.pieces:
        other = None if piece.reference is None else replace(piece.reference, batch=batch)
        seen = replace(piece, batch=batch, reference=other)
        if isinstance(seen, LayerSeen | OutputSeen) and seen.changed is not None:
            original = replace(seen.changed.original, batch=batch)
            seen = replace(seen, changed=replace(seen.changed, original=original))
        accumulate(total, scene.study.measure(seen))
    return total
