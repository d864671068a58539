"""Attention rank: how many singular values of an attention map make up 80 % of their sum.

rank = first k, from 1, with (sigma_1 + ... + sigma_k) / sum(sigma) >= 0.8, per layer and head (Wang
et al. 2024, section 3.7 and Fig. 4). The paper's number is that of the mean map over its images,
which its text does not say; the mean over images of each image's own index is another number, and
is reported beside it.

A triangular mask moves the rank by itself, upward for smooth maps by more than the paper's gain, so
three maps are measured: `used` (what multiplies the values, rows not renormalised), `softmax` (over
all keys) and `masked` (softmax, lower triangle only). `masked` of a bidirectional model against
`used` of a causal one is the fair comparison. A map that is identical to `used` is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from illama.observation import Batch, Form, LayerSeen, Piece, batch_of, present
from illama_eval.functional.map_averages import DRAWN, Averages, Slots, sum_by_slot
from illama_eval.functional.spectrum import (
    cumulative_share,
    effective_rank,
    first_index,
    singular_values,
    stable_rank,
    start_index_of_share,
)
from illama_eval.results import CURVE_POINTS, Curve, Row
from illama_eval.statistics import ROUNDING, jackknife, mean_interval
from illama_eval.study import Measured, Metric, Pending, StudyResult, Sums, layers_of, row, weigh

MakeRow: TypeAlias = Callable[[str, Tensor, int, Metric, Mapping[str, int | str]], Row]

ENERGY = 0.9
"""Share of the squared singular values that `energy_rank` asks for."""

INDICES = frozenset({"rank_of_mean_map", "energy_rank"})
"""Metrics that are whole numbers of one head, and smooth only as a mean over many."""

OF_MEAN_MAP = Metric(unit="index", interval="jackknife")

FEWEST_DRAWS = 5
"""Draws from which a mean over them has an interval; of fewer, some are all alike."""

FEWEST_OTHERS = 2
"""Draws that must differ from the most frequent value: with one alone, Student's interval would
cover in 86 % (measured), for an index moves in steps."""

FEWEST_GROUPS = 9
"""Values of a jackknife, that of all images included, from which its interval is given."""

JUMPS = "no interval: the index of one head jumps, and no group of images may move it"
STILL = "no interval: the index is the same without any group of images"
UNDEFINED = "an attention map holds values that are not finite, or is all zero"


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Rank of attention maps by layer and head, of the mean map and of single images' maps.

    Raises:
        ValueError: a parameter is out of range.
    """

    threshold: float = 0.8
    """Share of the sum of the singular values, above 0 and at most 1."""
    spectra: int | None = 256
    """Decompose the maps of this many images, those of smallest hash; None for every image."""

    name: ClassVar[str] = "rank"
    wants: ClassVar[frozenset[str]] = frozenset({"used", "softmax"})
    requires: ClassVar[frozenset[str]] = frozenset()
    metrics: ClassVar[Mapping[str, Metric]] = {
        "rank_of_mean_map": OF_MEAN_MAP,
        "rank_of_mean_map_30": Metric(unit="index", interval="jackknife", paired=False),
        "rank_per_image": Metric(unit="index"),
        "effective_rank": OF_MEAN_MAP,
        "stable_rank": OF_MEAN_MAP,
        "energy_rank": OF_MEAN_MAP,
    }

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"rank: threshold {self.threshold} is not above 0 and at most 1")
        if self.spectra is not None and self.spectra < 1:
            raise ValueError(f"rank: spectra {self.spectra} is not a positive number of images")

    def measure(self, piece: Piece) -> Measured:
        """Return one layer's sums of maps by group, and the indices of the selected images."""
        if not isinstance(piece, LayerSeen):
            return {}
        batch, softmax = batch_of(piece), present(piece.softmax, "softmax")
        used, factor = present(piece.used, "used"), piece.factor
        slots = Slots.of(softmax.shape, 2 if factor is None else 1)
        members = slots.members(batch.order, batch.count).to(softmax.device, non_blocking=True)
        sums: dict[str, Tensor | Pending] = {
            "images": members.sum(1),
            "softmax": sum_by_slot(softmax, members),
        }
        if factor is None:
            sums["used"] = sum_by_slot(used, members)
        else:
            sums["factor"] = factor.to(torch.float64) * batch.size
        chosen = self._choose(batch)
        sums["spectra"] = weigh(batch, chosen.to(batch.weights.device, non_blocking=True))
        if chosen.any():
            places = chosen.nonzero()[:, 0].to(softmax.device, non_blocking=True)
            maps = _distinct(used[places], softmax[places], factor, piece.form)
            weights = batch.weights[:, places]
            sums |= {f"rank/{kind}": self._indices(of, weights) for kind, of in maps.items()}
        return {f"{key}/{piece.index}": value for key, value in sums.items()}

    def summarize(self, total: Sums) -> StudyResult:
        """Return every metric by layer and head, its mean, and the curves.

        Raises:
            ValueError: no image was seen.
        """
        layers = layers_of(total, "images")
        slots = Slots.of(total[f"softmax/{layers[0]}"].shape, _sums_of(total)) if layers else None
        counts = total[f"images/{layers[0]}"] if layers else torch.zeros(0)
        images = int(counts[: slots.groups].sum()) if slots else 0
        if slots is None or not images:
            raise ValueError("rank: no image was seen")
        selected, averages = total[f"spectra/{layers[0]}"], slots.averages(counts)
        by_layer = [self._spectra(total, layer, averages) for layer in layers]
        rows: list[Row] = []
        curves: list[Curve] = []
        for kind in by_layer[0]:
            sigma = torch.stack([spectra[kind] for spectra in by_layer], dim=1)
            indices = torch.stack([_single(total, kind, layer) for layer in layers], dim=1)
            for metric, of_sigma in self._of_mean_map().items():
                values = averages.jackknife(of_sigma(sigma))
                rows += self._rows(metric, values, images, kind, _over_groups)
            per_image = indices / selected[:, None, None]
            rows += self._rows("rank_per_image", per_image, int(selected[0]), kind, _over_images)
            by_images = first_index(sigma, self.threshold).mean((1, 2))
            rows.append(self._of_few(dict(averages.curve(by_images)), kind))
            curves += [*_fall(by_images, averages, kind), *self._curves(sigma[0], kind)]
        return StudyResult(rows=tuple(rows), curves=tuple(curves))

    def _spectra(self, total: Sums, layer: int, averages: Averages) -> dict[str, Tensor]:
        """Return the singular values of one layer's mean maps, [average, head, value] by kind."""
        images = total[f"images/{layer}"]
        softmax = averages.of(total[f"softmax/{layer}"], images)
        if f"factor/{layer}" in total:
            factor = total[f"factor/{layer}"] / averages.of_all(images)
            maps = _distinct(softmax * factor, softmax, factor)
        else:
            maps = _distinct(averages.of(total[f"used/{layer}"], images), softmax, None)
        return {
            kind: torch.stack(
                [singular_values(head, (self.threshold,), (ENERGY,)) for head in map_.unbind(1)], 1
            )
            for kind, map_ in maps.items()
        }

    def _of_few(self, by_images: Mapping[float, Tensor], kind: str) -> Row:
        """Return the rank of maps of as few images as the paper's, mean over draws."""
        metric = "rank_of_mean_map_30"
        declared, place = self.metrics[metric], _place(kind)
        few, values = next(iter(by_images.items()), (0.0, torch.empty(0)))
        if round(few) != DRAWN or not values.isfinite().all():
            why = UNDEFINED if round(few) == DRAWN else f"there are fewer than {DRAWN} images"
            return row(metric, math.nan, 0, declared=declared, at=place, reason=why)
        draws = values.tolist()
        reason = f"mean over {len(draws)} draws of {DRAWN} images"
        alike = max(map(draws.count, draws))
        spread = len(draws) >= FEWEST_DRAWS and len(draws) - alike >= FEWEST_OTHERS
        if spread:
            reason += f", from {min(draws):.4g} to {max(draws):.4g}; Student's interval over draws"
        return row(
            metric,
            float(values.mean()),
            len(draws) * DRAWN,
            declared=declared,
            at=place,
            reason=reason,
            interval=mean_interval(draws) if spread else None,
        )

    def _of_mean_map(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return what is computed from singular values [..., value], by metric."""
        return {
            "rank_of_mean_map": lambda sigma: first_index(sigma, self.threshold),
            "effective_rank": effective_rank,
            "stable_rank": stable_rank,
            "energy_rank": lambda sigma: first_index(sigma.square(), ENERGY),
        }

    def _choose(self, batch: Batch) -> Tensor:
        """Return which images of the batch are decomposed singly, bool [image], on the CPU."""
        return batch.order < (batch.count if self.spectra is None else self.spectra)

    def _indices(self, maps: Tensor, weights: Tensor) -> Pending:
        """Return the weighted sum of every map's index, [201, head] of maps [image, head, ...]."""
        shape = maps.shape[:2]

        def finish(indices: Tensor) -> Tensor:
            return weights @ indices.reshape(shape).to(weights.device, non_blocking=True)

        return Pending(start_index_of_share(maps.flatten(0, 1), self.threshold), finish)

    def _rows(
        self, metric: str, values: Tensor, images: int, kind: str, make: MakeRow
    ) -> Iterator[Row]:
        """Yield the mean over layers and heads, then each of values [any, layer, head]."""
        declared, place = self.metrics[metric], _place(kind)
        yield make(metric, values.mean((1, 2)), images, declared, place)
        for layer, head in _each_head(values.shape[1:]):
            at = {"layer": layer + 1, "head": head + 1, **place}
            yield make(metric, values[:, layer, head], images, declared, at)

    def _curves(self, sigma: Tensor, kind: str) -> Iterator[Curve]:
        """Yield the cumulative share against the index, per layer and head."""
        share, crossing = cumulative_share(sigma), first_index(sigma, self.threshold)
        for layer, head in _each_head(sigma.shape[:2]):
            if not crossing[layer, head].isfinite():
                continue
            x = curve_points(int(crossing[layer, head]), sigma.shape[-1])
            y = share[layer, head].cpu()[torch.tensor(x) - 1]
            at = {"layer": layer + 1, "head": head + 1, **_place(kind)}
            yield Curve(name="cumulative_share", at=at, x=tuple(map(float, x)), y=tuple(y.tolist()))


def curve_points(crossing: int, length: int) -> list[int]:
    """Return at most 64 indices out of 1 to `length`: the ends, the crossing and its neighbours.

    The others are closer together in front, where the curve is steep.
    """
    steps = CURVE_POINTS - 3
    spread = {1 + round((length - 1) * (step / (steps - 1)) ** 2) for step in range(steps)}
    if length <= CURVE_POINTS:
        spread = set(range(1, length + 1))
    near = {min(max(crossing + offset, 1), length) for offset in (-1, 0, 1)}
    return sorted(spread | near)


def _over_images(
    metric: str, values: Tensor, images: int, declared: Metric, at: Mapping[str, int | str]
) -> Row:
    """Return the row of a mean over images, with its replicates [201]."""
    return row(metric, values, images, declared=declared, at=at, reason=_why(values, images))


def _over_groups(
    metric: str, values: Tensor, images: int, declared: Metric, at: Mapping[str, int | str]
) -> Row:
    """Return the row of a value of all images and without each group, [1 + group]."""
    why = _why(values, images)
    if why or len(values) < FEWEST_GROUPS or not values.isfinite().all():
        reason = why or f"no interval: fewer than {FEWEST_GROUPS - 1} groups of images"
        return row(metric, values[0], images, declared=declared, at=at, reason=reason)
    if metric in INDICES and "head" in at:
        return row(metric, values[0], images, declared=declared, at=at, reason=JUMPS)
    interval, replicates = jackknife(values.numpy())
    if interval[1] - interval[0] <= ROUNDING * abs(float(values[0])):
        return row(metric, values[0], images, declared=declared, at=at, reason=STILL)
    spread = torch.cat((values[:1], torch.from_numpy(replicates)))
    return row(metric, spread, images, declared=declared, at=at, interval=interval)


def _fall(values: Tensor, averages: Averages, kind: str) -> Iterator[Curve]:
    """Yield the mean rank against the number of images averaged."""
    points = [(x, float(part.mean())) for x, part in averages.curve(values)]
    known = [(x, y) for x, y in points if math.isfinite(y)]
    if known:
        x, y = zip(*known, strict=True)
        yield Curve(name="rank_by_images", at=_place(kind), x=x, y=y)


def _sums_of(total: Sums) -> int:
    """Return how many kinds of maps were summed."""
    return 1 if any(key.startswith("factor/") for key in total) else 2


def _distinct(
    used: Tensor, softmax: Tensor, factor: Tensor | None, form: Form | None = None
) -> dict[str, Tensor]:
    """Return the maps by name, [..., query, key], without those that are identical to `used`."""
    if factor is None:
        return {"used": used, "softmax": softmax, "masked": softmax.tril()}
    form, maps = form or _form_of(factor), {"used": used}
    if form != "full":
        maps["softmax"] = softmax
    if form != "lower":
        maps["masked"] = softmax.tril()
    return maps


def _form_of(factor: Tensor) -> Form:
    """Return what a mask after the softmax is, from its factor [query, key]."""
    whole = torch.ones_like(factor)
    if torch.equal(factor, whole):
        return "full"
    return "lower" if torch.equal(factor, whole.tril()) else "soft"


def _single(total: Sums, kind: str, layer: int) -> Tensor:
    """Return the summed indices of single images' maps, [201, head]; zero where none was chosen."""
    heads = total[f"softmax/{layer}"].shape[1]
    none = total[f"spectra/{layer}"].new_zeros((len(total[f"spectra/{layer}"]), heads))
    return total.get(f"rank/{kind}/{layer}", none)


def _place(kind: str) -> dict[str, int | str]:
    return {} if kind == "used" else {"map": kind}


def _each_head(shape: torch.Size) -> Iterator[tuple[int, int]]:
    layers, heads = shape
    return ((layer, head) for layer in range(layers) for head in range(heads))


def _why(values: Tensor, images: int) -> str:
    """Return why the value is undefined, or nothing."""
    if not images:
        return "none of the images selected for single spectra was seen"
    return "" if math.isfinite(values[0]) else UNDEFINED
