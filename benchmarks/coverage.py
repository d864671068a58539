"""How often the 95 % intervals of every metric hold the truth, by simulation with the studies.

    python benchmarks/coverage.py [--studies rank lens] [--more 1] [--out docs/coverage.md]

Every draw makes up what a model shows of fresh images, in scenes of known truth, and passes it
through `measure` and `summarize`. The truth is what very many images show; of the rank of a mean
map, which falls with the number of images, what as many images show on average; of a scaled error,
that of the temperatures that were fitted. Prints the document and writes it to `--out`; of studies
that are not named it keeps the rows that are there.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from illama.observation import Batch, Changed, LayerSeen, OutputSeen, Piece, SegmentsSeen
from illama.rollout import extend_rollout
from illama_eval.bootstrap import weights_of
from illama_eval.cue_conflict import Observer
from illama_eval.functional.neighbours import find_neighbours, vote
from illama_eval.functional.reliability import bin_by_rank, bin_by_width
from illama_eval.results import Row
from illama_eval.studies import STUDIES
from illama_eval.studies.anytime import Anytime
from illama_eval.studies.calibration import Calibration
from illama_eval.studies.lens import READOUTS, Lens
from illama_eval.studies.rank import Rank
from illama_eval.studies.segmentation import Segmentation
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.study import Study, Sums, accumulate

SIZES = (30, 100, 359, 2000)
DRAWS = (200, 200, 200, 80)
"""Draws of each scene at each of SIZES."""
MORE_DRAWS: Mapping[str, Sequence[int]] = {
    "calibration": (200, 200, 200, 200),
    "distance": (200, 200, 200, 200),
    "agreement": (1000, 1000, 1000, 400),
    "feature_agreement": (1000, 1000, 1000, 400),
}
"""The same of studies where these leave it open whether an interval covers."""
TRUTH = 200_000
"""Images of the truth: its error is a tenth of that of a value of 2,000 images."""
VERY_MANY, MANY = 60_000, 20_000
"""Images of the truth where chances stand for labels, and where each draw has its own."""
CHUNK = 2000
KNOWN, SEVEN = 20_000, 7
"""Pictures that the observer has seen, and of ten, how many it gets right."""
LEAKING = 0.8
"""Share of the images whose earlier states change at all."""
CLASSES, SIDE, HEADS, CHANNELS = 10, 4, 2, 8
TOKENS = SIDE**2 + 1
"""The patches, and the class token behind them."""
RARELY, FEW = 0.1, 20
"""Share and number of the draws that print an interval below which its coverage is not judged."""
AVERAGED = frozenset(
    {
        "ece_floor",
        "rank_of_mean_map",
        "rank_of_mean_map_30",
        "effective_rank",
        "stable_rank",
        "energy_rank",
    }
)
"""Metrics whose truth depends on the number of images: ranks of mean maps."""


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


@dataclass
class Tally:
    """How the intervals of one metric did in one scene at one number of images."""

    defined: int = 0
    printed: int = 0
    covered: int = 0
    outside: int = 0
    """Intervals that exclude their own estimate."""
    flat: int = 0
    """Intervals of no width, of values that vary."""
    values: set[float] = field(default_factory=set)

    @property
    def share(self) -> float:
        """How often there is an interval where there is a value."""
        return self.printed / self.defined if self.defined else 0.0

    @property
    def judged(self) -> bool:
        """Whether there are intervals enough to say how often they cover."""
        return self.share >= RARELY and self.printed >= FEW

    @property
    def coverage(self) -> float:
        """How often an interval holds the truth, where there is one."""
        return self.covered / self.printed if self.printed else math.nan


Place = tuple[str, tuple[tuple[str, int | str], ...]]
"""Metric and `at`."""
Key = tuple[str, str, str, int]
"""Study, metric, scene and number of images."""


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
        draw = lambda *shape: torch.randn(images, *shape, generator=random)  # noqa: E731
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
        draw = lambda *shape: torch.randn(images, *shape, generator=random)  # noqa: E731
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
        draw = lambda *shape: torch.randn(images, *shape, generator=random)  # noqa: E731
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
        draw = lambda *shape: torch.randn(images, *shape, generator=random)  # noqa: E731
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


def find_truth(scene: Scene, random: torch.Generator) -> dict[Place, float | None]:
    """Return what very many images show."""
    total: Sums = {}
    for _ in range(TRUTH // CHUNK):
        sums = observe(scene, random, CHUNK, once=True)
        accumulate(total, {k: v for k, v in sums.items() if not k.startswith("image/")})
    return {_place(row): row.value for row in scene.study.summarize(total).rows}


def simulate(study: str, sizes: Sequence[int], draws: Mapping[int, int]) -> dict[Key, Tally]:
    """Return how the intervals of a study's metrics did, by metric, scene and size."""
    found: defaultdict[Key, Tally] = defaultdict(Tally)
    for scene in scenes()[study]:
        random = torch.Generator().manual_seed(1)
        fitted = FITTED[study](scene, random) if study in FITTED else None
        truth = fitted.known if fitted else find_truth(scene, random)
        for images in sizes:
            runs = []
            for _ in range(draws[images]):
                total = observe(scene, random, images)
                runs.append((scene.study.summarize(total).rows, fitted.of(total) if fitted else {}))
            own = {**truth, **_means(runs)}
            for rows, known in runs:
                for row in rows:
                    tally = found[study, row.metric, scene.name, images]
                    _count(tally, row, {**own, **known}.get(_place(row)))
    return found


def _means(runs: Sequence[tuple[Sequence[Row], Any]]) -> dict[Place, float | None]:
    """Return the mean over draws of what depends on the number of images."""
    values = defaultdict(list)
    for rows, _ in runs:
        for row in rows:
            if row.metric in AVERAGED and row.value is not None:
                values[_place(row)].append(row.value)
    return {place: float(np.mean(each)) for place, each in values.items()}


def _place(row: Row) -> Place:
    return row.metric, tuple(row.at.items())


def _count(tally: Tally, row: Row, truth: float | None) -> None:
    if row.value is None or truth is None:
        return
    tally.defined += 1
    tally.values.add(row.value)
    if row.low is None or row.high is None:
        return
    near = 1e-9 * max(1.0, abs(truth))
    tally.printed += 1
    tally.covered += row.low - near <= truth <= row.high + near
    tally.outside += not row.low <= row.value <= row.high
    tally.flat += row.low == row.high and abs(row.value - truth) > near


class _CalibrationTruth:
    """Errors of very many images, whose true chances stand for their labels."""

    def __init__(self, scene: Scene, random: torch.Generator) -> None:
        shown = scene.show(random, VERY_MANY)
        (output,) = shown.pieces
        assert isinstance(output, OutputSeen)
        assert isinstance(scene.study, Calibration)
        assert output.logits is not None
        assert shown.chance is not None
        self.study, self.logits, self.chance = scene.study, output.logits.double(), shown.chance
        self.right = self.chance.gather(1, self.logits.argmax(-1)[:, None])[:, 0]
        self.known = self._find_known(scene.sharpness)

    def _find_known(self, temperature: float) -> dict[Place, float | None]:
        """Return the truth of what no draw changes."""
        p, q = self.chance, self.logits.softmax(-1)
        confidence, bins = q.amax(-1), self.study.bins
        places = {
            "ece": bin_by_width(confidence, bins),
            "ece_unscaled": bin_by_width(confidence, bins),
            "ece_left": bin_by_width(confidence, bins, closed="left"),
            "ece_mass": bin_by_rank(confidence, bins),
        }
        errors = {name: self._error(confidence, place) for name, place in places.items()}
        every = torch.arange(CLASSES) * bins + bin_by_width(q, bins)
        gaps = torch.bincount(every.flatten(), (q - p).flatten(), CLASSES * bins)
        order = confidence.argsort(descending=True)
        risks = (1 - self.right[order]).cumsum(0) / torch.arange(1, VERY_MANY + 1)
        nll = float(-(p * q.clamp(min=1e-12).log()).sum(-1).mean())
        numbers = {
            **errors,
            "classwise_ece": float(gaps.abs().sum()) / VERY_MANY / CLASSES,
            "nll": nll,
            "nll_unscaled": nll,
            "brier": float((q.square() - 2 * q * p).sum(-1).mean()) + 1,
            "confidence": float(confidence.mean()),
            "aurc": float(risks.mean()),
            "temperature": temperature,
        }
        by_bin = self._by_bin(places["ece"])
        return {**{(name, ()): value for name, value in numbers.items()}, **by_bin}

    def _by_bin(self, place: Tensor) -> dict[Place, float | None]:
        """Return the accuracy of each bin that holds a hundred images or more."""
        images = torch.bincount(place, minlength=self.study.bins)
        right = torch.bincount(place, self.right, self.study.bins) / images
        return {
            ("bin_accuracy", (("bin", number + 1),)): float(right[number])
            for number in range(self.study.bins)
            if images[number] >= 100
        }

    def _error(self, confidence: Tensor, place: Tensor) -> float:
        gaps = torch.bincount(place, confidence - self.right[: len(place)], self.study.bins)
        return float(gaps.abs().sum()) / len(place)

    def of(self, total: Sums) -> dict[Place, float | None]:
        """Return the truth after scaling with the temperatures that a draw has fitted."""
        used = [fit.temperature for fit in self.study.fitted(total).values()]
        if not np.isfinite(used).all():
            return {}
        side = torch.arange(MANY) % len(used)
        scaled = self.logits[:MANY] / torch.tensor(used).double()[side, None]
        log_q = scaled.log_softmax(-1)
        confidence = log_q.amax(-1).exp()
        return {
            ("ece_scaled", ()): self._error(confidence, bin_by_width(confidence, self.study.bins)),
            ("nll_scaled", ()): float(-(self.chance[:MANY] * log_q).sum(-1).mean()),
        }


class _LensTruth:
    """Hits of the head and of a run's own neighbours, over very many other images."""

    def __init__(self, scene: Scene, random: torch.Generator) -> None:
        shown = scene.show(random, MANY)
        layer = shown.pieces[0]
        assert isinstance(layer, LayerSeen)
        assert isinstance(scene.study, Lens)
        assert layer.tokens is not None
        assert layer.lens is not None
        self.study, self.labels = scene.study, shown.labels
        self.states = (layer.tokens[:, -1], layer.tokens[:, layer.image_tokens].mean(1))
        self.known: dict[Place, float | None] = {}
        for number, readout in enumerate(READOUTS):
            self.known |= self._rows(f"head_{readout}", layer.lens[:, number].argmax(1))

    def _rows(self, metric: str, said: Tensor) -> dict[Place, float | None]:
        """Return the accuracy of what is said after the only block."""
        right = float((said == self.labels).double().mean())
        return {(metric, ()): right, (metric, (("layer", 1),)): right}

    def of(self, total: Sums) -> dict[Place, float | None]:
        """Return the accuracies of the neighbours that a draw has."""
        known: dict[Place, float | None] = {}
        voters = total["labels"][1::2]
        if len(voters) < self.study.neighbours:
            return known
        for number, readout in enumerate(READOUTS):
            bank = total["states/1"][1::2, number]
            near = find_neighbours(self.states[number], bank, self.study.neighbours)
            said = vote(near, voters, CLASSES, self.study.neighbours).argmax(1)
            known |= self._rows(f"knn_{readout}", said)
        return known


FITTED: Mapping[str, Callable[[Scene, torch.Generator], _CalibrationTruth | _LensTruth]] = {
    "calibration": _CalibrationTruth,
    "lens": _LensTruth,
}
"""Truths of the studies of which some numbers depend on what a run has fitted."""


def draws_of(study: str, more: float = 1.0) -> dict[int, int]:
    """Return how many draws of each scene there are at each number of images."""
    planned = zip(SIZES, MORE_DRAWS.get(study, DRAWS), strict=True)
    return {images: max(1, round(more * number)) for images, number in planned}


def simulate_all(studies: Sequence[str], more: float) -> dict[Key, Tally]:
    """Return the tallies of some studies, from so many times the planned draws."""
    found: dict[Key, Tally] = {}
    for study in studies:
        found |= simulate(study, SIZES, draws_of(study, more))
    return found


def to_markdown(found: Mapping[Key, Tally], more: float, kept: Sequence[str] = ()) -> str:
    """Return the document; `kept` are lines of another one, for studies that are not in `found`."""
    shown = {study: "/".join(map(str, draws_of(study, more).values())) for study in STUDIES}
    usual = "/".join(str(max(1, round(more * number))) for number in DRAWS)
    others = ", ".join(f"{study} {draws}" for study, draws in shown.items() if draws != usual)
    again = "" if more == 1 else f" --more {more:g}"
    about = (
        f"Made by `python benchmarks/coverage.py{again} --out docs/coverage.md`: every "
        "metric that prints a 95 % interval, in scenes of known truth, with the code of the "
        f"studies. Draws per scene at each n: {usual}; {others}. The standard error "
        "of a share of .95 is .015 among 200 draws, .024 among 80. Each cell is the lowest and the "
        "highest coverage of any scene that prints an interval in a tenth of its draws or more, "
        f"{FEW} intervals at least, and, where not all draws print one, the share that does. A "
        "dash: none is printed, and the row of the run says why. Rows by layer, head, class or bin "
        "count with their metric. Some cover always: a share that none of a scene's images has, or "
        "all have (Wilson's interval from 0, or to 1); `class_row_mass`, which is 1 in these "
        "scenes but for rounding; and `ece_floor` where all bins fill alike, so that it hardly "
        "varies, while its replicates hold different numbers of images. The others above .995 are "
        "wider than they need be: errors of 30 to 100 images whose interval begins at 0, shape "
        "bias of 30 pictures, and the rank of the map of 30 images."
    )
    lines = [
        "# How often the intervals cover",
        "",
        about,
        "",
        "| study | metric | " + " | ".join(f"n = {images:,}" for images in SIZES) + " |",
        "| :--- | :--- |" + " ---: |" * len(SIZES),
    ]
    simulated = {study for study, *_ in found}
    for study in STUDIES:
        if study in simulated:
            lines += _rows(found, study)
        else:
            lines += [line for line in kept if line.startswith(f"| {study} |")]
    return "\n".join([*lines, ""])


def _rows(found: Mapping[Key, Tally], study: str) -> Iterator[str]:
    """Yield the lines of a study's metrics that ever have an interval."""
    for metric in dict.fromkeys(metric for other, metric, *_ in found if other == study):
        cells = [_cell(found, study, metric, images) for images in SIZES]
        if any(cell != "\N{EM DASH}" for cell in cells):
            yield f"| {study} | {metric} | {' | '.join(cells)} |"


def _cell(found: Mapping[Key, Tally], study: str, metric: str, images: int) -> str:
    mine = [t for (a, b, _, n), t in found.items() if (a, b, n) == (study, metric, images)]
    judged = [tally for tally in mine if tally.judged]
    if not judged:
        return "\N{EM DASH}"
    low, high = (end(tally.coverage for tally in judged) for end in (min, max))
    shown = f"{low:.3f} to {high:.3f}".replace("0.", ".")
    share = sum(t.printed for t in mine) / max(1, sum(t.defined for t in mine))
    return shown if share > 0.995 else f"{shown} ({share:.0%})"


def failures(found: Mapping[Key, Tally], least: float, most: float) -> Iterator[str]:
    """Yield what covers too seldom or too often, excludes its estimate, or has no width."""
    for (study, metric, scene, images), tally in found.items():
        where = f"{study}.{metric}, {scene}, n = {images}"
        if tally.judged and not least <= tally.coverage <= most:
            yield f"{where}: {tally.coverage:.3f} of {tally.printed}"
        if tally.outside or tally.flat:
            yield f"{where}: {tally.outside} outside, {tally.flat} without width"


def main() -> None:
    """Simulate; print or write the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--more", type=float, default=1.0, help="times the planned draws")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = simulate_all(arguments.studies, arguments.more)
    there = arguments.out is not None and arguments.out.exists()
    kept = arguments.out.read_text(encoding="utf-8").splitlines() if there else ()
    text = to_markdown(found, arguments.more, kept)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")
    print(text)
    for problem in failures(found, 0.9, 0.995):
        print(problem)


if __name__ == "__main__":
    main()
