"""What the intervals of `coverage.py` are to hold: the truth of each scene."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from coverage_scenes import CLASSES, Scene, observe
from torch import Tensor

from illama.observation import LayerSeen, OutputSeen
from illama_eval.functional.neighbours import find_neighbours, vote
from illama_eval.functional.reliability import bin_by_rank, bin_by_width
from illama_eval.results import Row
from illama_eval.studies.calibration import Calibration
from illama_eval.studies.lens import READOUTS, Lens
from illama_eval.study import Sums, accumulate

TRUTH = 200_000
"""Images of the truth: its error is a tenth of that of a value of 2,000 images."""
VERY_MANY, MANY = 60_000, 20_000
"""Images of the truth where chances stand for labels, and where each draw has its own."""
CHUNK = 2000
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

Place = tuple[str, tuple[tuple[str, int | str], ...]]
"""Metric and `at`."""


def find_truth(scene: Scene, random: torch.Generator) -> dict[Place, float | None]:
    """Return what very many images show."""
    total: Sums = {}
    for _ in range(TRUTH // CHUNK):
        sums = observe(scene, random, CHUNK, once=True)
        accumulate(total, {k: v for k, v in sums.items() if not k.startswith("image/")})
    return {place_of(row): row.value for row in scene.study.summarize(total).rows}


def average_draws(runs: Sequence[tuple[Sequence[Row], Any]]) -> dict[Place, float | None]:
    """Return the mean over draws of what depends on the number of images."""
    values = defaultdict(list)
    for rows, _ in runs:
        for row in rows:
            if row.metric in AVERAGED and row.value is not None:
                values[place_of(row)].append(row.value)
    return {place: float(np.mean(each)) for place, each in values.items()}


def place_of(row: Row) -> Place:
    """Return what a row is of: its metric, and where."""
    return row.metric, tuple(row.at.items())


class CalibrationTruth:
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

    def after_fit(self, total: Sums) -> dict[Place, float | None]:
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


class LensTruth:
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

    def after_fit(self, total: Sums) -> dict[Place, float | None]:
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


FITTED: Mapping[str, Callable[[Scene, torch.Generator], CalibrationTruth | LensTruth]] = {
    "calibration": CalibrationTruth,
    "lens": LensTruth,
}
"""Truths of the studies of which some numbers depend on what a run has fitted."""
