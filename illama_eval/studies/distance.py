"""Attention distance and rollout: how far attention looks, and which patches reach the head.

attention_distance: distance of a patch to the patches that it attends to, in patches between
    centres, weighted by the attention; mean over query patches, heads and images (Dosovitskiy et
    al. 2021, appendix D.7). `relative_distance` is the same over what equal scores would give
    under the same mask: a causal mask alone changes the distance.
rollout_distance: the same of the rollout after a block: R = (A + I) / 2 @ R of the block before,
    with A the mean of the heads' maps (Abnar & Zuidema 2020).
rollout_mass: share of the head's view, by raster row, that comes from the row's patches. The view
    is the class token's row of the rollout or, without one, the mean of the patches' rows.
rollout_first_half: the same of the first half of the raster. `even_first_half` is what equal scores
    would give under the same mask: a causal mask alone favours the first patches, block by block.
rollout_spread: exp(entropy) of the view over the number of patches; 1 for an even view.

Rows that do not sum to one, as under a mask after the softmax, are divided by their own sum: in the
rollout the mean map's rows before the identity is added; in distances and views what falls on
patches. What the mask takes away is in `row_mass` of `collapse`, not here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from illama.observation import LayerSeen, OutputSeen, Piece, batch_of, present
from illama.rollout import extend_rollout
from illama_eval.functional.attention_maps import by_blocks
from illama_eval.functional.patch_distance import distances, mean_distance, uniform_attention
from illama_eval.results import Row
from illama_eval.study import Metric, StudyResult, Sums, layers_of, row, weigh

OF_ROLLOUT = ("rollout_first_half", "rollout_spread", "rollout_distance")
"""Metrics of the rollout, by layer."""
UNDEFINED = "no row has attention on patches, the patches are no square, or attention is not finite"


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far attention looks, in patches, and which patches reach the head by rollout."""

    name: ClassVar[str] = "distance"
    wants: ClassVar[frozenset[str]] = frozenset({"used", "rollout"})
    requires: ClassVar[frozenset[str]] = frozenset()
    metrics: ClassVar[Mapping[str, Metric]] = {
        "attention_distance": Metric(unit="patches"),
        "relative_distance": Metric(unit="ratio"),
        "rollout_distance": Metric(unit="patches"),
        "rollout_first_half": Metric(),
        "even_first_half": Metric(),
        "rollout_spread": Metric(),
        "rollout_mass": Metric(),
    }

    def measure(self, piece: Piece) -> Sums:
        """Return sums and numbers of images of one layer, [201, head or raster row, 2]."""
        batch = batch_of(piece)
        if isinstance(piece, OutputSeen):
            return {"images": torch.tensor(batch.size)}
        if not isinstance(piece, LayerSeen):
            return {}
        seen = self._look_at_maps(piece) | self._look_at_rollout(piece)
        return {f"{key}/{piece.index}": weigh(batch, _sum_and_number(v)) for key, v in seen.items()}

    def _look_at_maps(self, piece: LayerSeen) -> Sums:
        """Return the distances of each image's heads, [image, head]."""
        used, patches = present(piece.used, "used"), piece.image_tokens
        apart = distances(len(range(used.shape[-1])[patches]), used.device)
        (far,) = by_blocks(lambda maps: (mean_distance(maps[:, patches, patches], apart),), used)
        alone = uniform_attention(piece.open, piece.factor)[patches, patches]
        far = far.reshape(used.shape[:2])
        return {"attention_distance": far, "relative_distance": far / mean_distance(alone, apart)}

    def _look_at_rollout(self, piece: LayerSeen) -> Sums:
        """Return what each image's rollout is like, [image, 1], and its view, [image, row]."""
        rollout, patches = present(piece.rollout, "rollout").to(torch.float64), piece.image_tokens
        own, view = rollout[:, patches, patches], _view(rollout, piece)
        number = view.shape[-1]
        side = max(1, math.isqrt(number))
        square = side * side == number
        rows = view.reshape(len(view), side, side).sum(-1) if square else view[:, :0]
        spread = torch.special.entr(view).sum(-1).exp() / number
        return {
            "rollout_distance": mean_distance(own, distances(number, own.device))[:, None],
            "rollout_first_half": _first_half(view)[:, None],
            "even_first_half": _first_half(_even_view(piece)).expand(len(view), 1),
            "rollout_spread": spread[:, None],
            "rollout_mass": rows,
        }

    def summarize(self, total: Sums) -> StudyResult:
        """Return distances by layer and head, the rollout by layer, and its mass by raster row.

        Raises:
            ValueError: no image was seen.
        """
        images = int(total["images"]) if total else 0
        if not images:
            raise ValueError("distance: no image was seen")
        layers = layers_of(total, "rollout_mass")
        means = {key: pair[..., 0] / pair[..., 1] for key, pair in total.items() if "/" in key}
        rows: list[Row] = []
        for metric in ("attention_distance", "relative_distance"):
            by_layer = torch.stack([means[f"{metric}/{layer}"] for layer in layers], 1)
            rows.append(_row(metric, by_layer.mean((1, 2)), images))
            for layer, heads in zip(layers, by_layer.unbind(1), strict=True):
                rows.append(_row(metric, heads.mean(1), images, layer=layer))
                rows += [
                    _row(metric, values, images, layer=layer, head=head)
                    for head, values in enumerate(heads.unbind(1), start=1)
                ]
        rows += self._rollout_rows(means, layers, images)
        return StudyResult(rows=tuple(rows))

    def _rollout_rows(
        self, means: Mapping[str, Tensor], layers: list[int], images: int
    ) -> Iterator[Row]:
        """Yield the rollout through all blocks, then after each; its mass through all alone."""
        even = float(means[f"even_first_half/{layers[-1]}"][0, 0])
        yield _row("even_first_half", even, images)
        for metric in OF_ROLLOUT:
            yield _row(metric, means[f"{metric}/{layers[-1]}"][:, 0], images)
            for layer in layers:
                yield _row(metric, means[f"{metric}/{layer}"][:, 0], images, layer=layer)
        for number, values in enumerate(means[f"rollout_mass/{layers[-1]}"].unbind(1), start=1):
            yield _row("rollout_mass", values, images, raster_row=number)


def _sum_and_number(values: Tensor) -> Tensor:
    """Return what adds up to a mean over the images where it is defined, [image, value, 2]."""
    defined = values.isfinite()
    return torch.stack((values.where(defined, 0.0), defined.to(values.dtype)), -1)


def _view(rollout: Tensor, piece: LayerSeen) -> Tensor:
    """Return what reaches the head from each patch, [image, patch], of a rollout; the sum is 1."""
    patches = piece.image_tokens
    if piece.class_index is None:
        view = rollout[:, patches, patches].mean(1)
    else:
        view = rollout[:, piece.class_index, patches]
    return view / view.sum(-1, keepdim=True)


def _even_view(piece: LayerSeen) -> Tensor:
    """Return the view [1, patch] of equal scores in this block and in all before it."""
    one = extend_rollout(None, uniform_attention(piece.open, piece.factor)[None, None])
    return _view(torch.linalg.matrix_power(one, piece.index), piece)


def _first_half(view: Tensor) -> Tensor:
    """Return what a view [image, patch] puts on the first half; the middle patch counts half."""
    number = view.shape[-1]
    share = (number / 2 - torch.arange(number, device=view.device)).clamp(0, 1)
    return view @ share.to(view.dtype)


def _row(metric: str, values: Tensor | float, images: int, **at: int | str) -> Row:
    """Return the row of values [201], or of one number for all, with the reason if undefined."""
    first = float(values) if isinstance(values, float) else float(values[0])
    reason = "" if math.isfinite(first) else UNDEFINED
    return row(metric, values, images, declared=Distance.metrics[metric], at=at, reason=reason)
