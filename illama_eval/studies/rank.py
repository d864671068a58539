"""Attention rank: how many singular values of an attention map make up 80 % of their sum.

rank = first k, from 1, with (sigma_1 + ... + sigma_k) / sum(sigma) >= 0.8, per layer and head (Wang
et al. 2024, section 3.7 and Fig. 4). The paper's number is that of the mean map over its images,
which its text does not say; the mean over images of each image's own index is another number and
stands beside it.

A triangular mask moves the rank by itself, upward for smooth maps by more than the paper's gain, so
three maps are measured: `used` (what multiplies the values, rows not renormalised), `softmax` (over
all keys) and `masked` (softmax, lower triangle only). `masked` of a bidirectional model against
`used` of a causal one is the fair comparison. A map that is identical to `used` is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from illama.observation import Batch, LayerSeen, Piece, batch_of, present
from illama_eval.functional.spectrum import (
    cumulative_share,
    effective_rank,
    first_index,
    index_of_share,
    singular_values,
    stable_rank,
)
from illama_eval.results import CURVE_POINTS, Curve, Row
from illama_eval.study import Metric, StudyResult, Sums, row, weigh

ENERGY = 0.9
"""Share of the squared singular values that `energy_rank` asks for."""

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
        "rank_of_mean_map": Metric(unit="index"),
        "rank_per_image": Metric(unit="index"),
        "effective_rank": Metric(unit="index"),
        "stable_rank": Metric(unit="index"),
        "energy_rank": Metric(unit="index"),
    }

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"rank: threshold {self.threshold} is not above 0 and at most 1")
        if self.spectra is not None and self.spectra < 1:
            raise ValueError(f"rank: spectra {self.spectra} is not a positive number of images")

    def measure(self, piece: Piece) -> Sums:
        """Return one layer's sums of maps, and the indices of the selected images' maps."""
        if not isinstance(piece, LayerSeen):
            return {}
        batch, softmax = batch_of(piece), present(piece.softmax, "softmax")
        used, factor = present(piece.used, "used"), piece.factor
        sums = {"images": batch.weights.new_full((), batch.size), "softmax": _add_up(softmax)}
        if factor is None:
            sums["used"] = _add_up(used)
        else:
            sums["factor"] = factor.to(torch.float64) * batch.size
        chosen = self._choose(batch)
        sums["spectra"] = weigh(batch, chosen)
        for kind, maps in _distinct(used[chosen], softmax[chosen], factor).items():
            indices = sums["images"].new_zeros(maps.shape[1]).expand(batch.size, -1).clone()
            indices[chosen] = self._index(maps)
            sums[f"rank/{kind}"] = weigh(batch, indices)
        return {f"{key}/{piece.index}": value for key, value in sums.items()}

    def summarize(self, total: Sums) -> StudyResult:
        """Return every metric by layer and head, its mean, and the cumulative curves.

        Raises:
            ValueError: no image was seen.
        """
        layers = sorted(int(key.split("/")[1]) for key in total if key.startswith("images/"))
        images = int(total[f"images/{layers[0]}"]) if layers else 0
        if not images:
            raise ValueError("rank: no image was seen")
        selected = total[f"spectra/{layers[0]}"]
        by_layer = [_spectra(total, layer) for layer in layers]
        rows: list[Row] = []
        curves: list[Curve] = []
        for kind in by_layer[0]:
            sigma = torch.stack([spectra[kind] for spectra in by_layer])
            indices = torch.stack([total[f"rank/{kind}/{layer}"] for layer in layers], dim=1)
            for metric, of_sigma in self._of_mean_map().items():
                rows += self._rows(metric, of_sigma(sigma)[None], images, kind)
            per_image = indices / selected[:, None, None]
            rows += self._rows("rank_per_image", per_image, int(selected[0]), kind)
            curves += self._curves(sigma, kind)
        return StudyResult(rows=tuple(rows), curves=tuple(curves))

    def _of_mean_map(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return what is computed from singular values [..., value], by metric."""
        return {
            "rank_of_mean_map": lambda sigma: first_index(sigma, self.threshold),
            "effective_rank": effective_rank,
            "stable_rank": stable_rank,
            "energy_rank": lambda sigma: first_index(sigma.square(), ENERGY),
        }

    def _choose(self, batch: Batch) -> Tensor:
        """Return which images of the batch are decomposed singly, bool [image]."""
        return batch.order < (batch.count if self.spectra is None else self.spectra)

    def _index(self, maps: Tensor) -> Tensor:
        """Return the index of every map, [image, head] of [image, head, query, key]."""
        return index_of_share(maps.flatten(0, 1), self.threshold).reshape(maps.shape[:2])

    def _rows(self, metric: str, values: Tensor, images: int, kind: str) -> Iterator[Row]:
        """Yield the mean of values [1 or 201, layer, head], then every one of them."""
        declared, place = self.metrics[metric], _place(kind)
        mean = values.mean((1, 2))
        yield row(metric, mean, images, declared=declared, at=place, reason=_why(mean, images))
        for layer, head in _each_head(values.shape[1:]):
            one = values[:, layer, head]
            at = {"layer": layer + 1, "head": head + 1, **place}
            yield row(metric, one, images, declared=declared, at=at, reason=_why(one, images))

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

    The others lie closer together in front, where the curve is steep.
    """
    steps = CURVE_POINTS - 3
    spread = {1 + round((length - 1) * (step / (steps - 1)) ** 2) for step in range(steps)}
    if length <= CURVE_POINTS:
        spread = set(range(1, length + 1))
    near = {min(max(crossing + offset, 1), length) for offset in (-1, 0, 1)}
    return sorted(spread | near)


def _add_up(maps: Tensor) -> Tensor:
    """Return the sum over the images, float64 [head, query, key]."""
    return torch.stack([head.sum(0, dtype=torch.float64) for head in maps.unbind(1)])


def _distinct(used: Tensor, softmax: Tensor, factor: Tensor | None) -> dict[str, Tensor]:
    """Return the maps by name, [..., query, key], without those that are identical to `used`."""
    maps = {"used": used}
    if factor is None or not torch.equal(factor, torch.ones_like(factor)):
        maps["softmax"] = softmax
    if factor is None or not torch.equal(factor, torch.ones_like(factor).tril()):
        maps["masked"] = softmax.tril()
    return maps


def _spectra(total: Sums, layer: int) -> dict[str, Tensor]:
    """Return the singular values of one layer's mean maps, [head, value] by kind of map."""
    images, softmax = total[f"images/{layer}"], total[f"softmax/{layer}"]
    if f"factor/{layer}" in total:
        factor = total[f"factor/{layer}"] / images
        maps = _distinct(softmax * factor / images, softmax / images, factor)
    else:
        maps = _distinct(total[f"used/{layer}"] / images, softmax / images, None)
    return {kind: singular_values(map_) for kind, map_ in maps.items()}


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
