"""Where attention sinks are: on which token, of which kind, in which map, on what background."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from illama.observation import LayerSeen
from illama_eval.results import Row
from illama_eval.study import Metric, Sums, layers_of, row

POSITIONS = ("class token", "register", "corner", "other patch")
"""Where a sink can be: on the class token, on another token that is no patch, or on a patch."""

MOST = 0.5
"""Share of its pixels above which a patch is background."""

UNCOUNTED = "one value for all images: no replicates"
NO_SINK = "no head has a sink in any image"
NO_PATCH_SINK = "no head has a sink on a patch in any image"
UNMASKED = "background needs masks (collapse --background)"


class Sinks(NamedTuple):
    """The sinks of a run."""

    counts: Tensor
    """In how many images each head's sink is at each key, int64 [layer, head, key]."""
    kinds: Tensor
    """Each key's kind of position, int64 [key], as in POSITIONS."""
    background: Background | None
    """None where the images have no masks."""

    @classmethod
    def of(cls, total: Sums) -> Sinks:
        """Return the sinks of the grand total of `collapse`."""
        layers = layers_of(total, "sink_keys")
        counts = torch.stack([total[f"sink_keys/{layer}"] for layer in layers])
        return cls(counts, total[f"sink_kinds/{layers[0]}"].argmax(1), Background.of(total, layers))

    @property
    def shares(self) -> dict[str, float]:
        """The share of all sinks that are at each kind of position; NaN if there are none."""
        by_key, number = self.counts.sum((0, 1)), int(self.counts.sum())
        return {
            position: float(by_key[self.kinds == kind].sum()) / number if number else math.nan
            for kind, position in enumerate(POSITIONS)
        }

    def rows(self, metrics: Mapping[str, Metric], images: int, broken: str) -> Iterator[Row]:
        """Yield the share of all sinks at each kind of position, and of those on background."""
        for position, share in self.shares.items():
            reason = f"{NO_SINK}, or {broken}" if math.isnan(share) else UNCOUNTED
            at: dict[str, int | str] = {"position": position}
            declared = metrics["sink_position"]
            yield row("sink_position", share, images, declared=declared, at=at, reason=reason)
        if self.background is not None:
            yield from self.background.rows(metrics, images, broken)

    def describe(self) -> str:
        """Return in words where the most frequent sink is, and in which map; nothing if none."""
        if not self.counts.any():
            return ""
        place = (self.counts == self.counts.max()).nonzero()[0]
        layer, head, key = (int(each) for each in place)
        where = UNMASKED if self.background is None else self.background.describe()
        return (
            f"most often on token {key + 1} ({POSITIONS[int(self.kinds[key])]}), in layer "
            f"{layer + 1}, head {head + 1}; {where}"
        )


class Background(NamedTuple):
    """How many of the sinks on patches are on background, and how many of the patches are."""

    sinks: Tensor
    """Share of the sinks on patches, [201]; NaN where there is none."""
    patches: Tensor
    """Share of the patches, [201]."""
    images: int
    """Images with a sink on a patch, in the layer with most of them."""

    @classmethod
    def of(cls, total: Sums, layers: list[int]) -> Background | None:
        """Return what a grand total says; None where the images have no masks."""
        if f"sink_background/{layers[0]}" not in total:
            return None
        sinks = torch.stack([total[f"sink_background/{layer}"] for layer in layers]).sum((0, 2))
        patches = total[f"background_patches/{layers[0]}"][:, 0]
        images = max(int(total[f"sink_images/{layer}"]) for layer in layers)
        return cls(sinks[:, 0] / sinks[:, 1], patches[:, 0] / patches[:, 1], images)

    def rows(self, metrics: Mapping[str, Metric], images: int, broken: str) -> Iterator[Row]:
        """Yield both shares."""
        yield row(
            "sink_background",
            self.sinks,
            self.images or images,
            declared=metrics["sink_background"],
            reason="" if self.images else f"{NO_PATCH_SINK}, or {broken}",
        )
        declared = metrics["background_patches"]
        yield row("background_patches", self.patches, images, declared=declared)

    def describe(self) -> str:
        """Return both shares in words."""
        patches = f"{float(self.patches[0]):.1%} of patches"
        if not self.images:
            return f"background: {patches}, and no sink is on a patch"
        return f"background: {float(self.sinks[0]):.1%} of sinks on patches, {patches}"


def kinds_of_tokens(piece: LayerSeen) -> Tensor:
    """Return which kind of position each token is, one-hot int64 [token, kind] as in POSITIONS.

    Corners are those of a square grid of patches; another number of patches has none.
    """
    kinds = torch.ones(len(piece.open), dtype=torch.int64)
    kinds[piece.image_tokens] = POSITIONS.index("other patch")
    patches = torch.arange(len(kinds))[piece.image_tokens]
    number, side = len(patches), math.isqrt(len(patches))
    if side * side == number:
        corners = patches[[0, side - 1, number - side, number - 1]]
        kinds[corners] = POSITIONS.index("corner")
    if piece.class_index is not None:
        kinds[piece.class_index] = POSITIONS.index("class token")
    return torch.nn.functional.one_hot(kinds, len(POSITIONS)).to(
        piece.open.device, non_blocking=True
    )


def count_sinks(sinks: Tensor, key: Tensor, maps: Tensor) -> Tensor:
    """Return in how many images each head's sink is at each key, int64 [head, key].

    `sinks` says which of the maps [image, head, query, key] have one, and `key` at which key it
    is, in the order of images and heads.
    """
    images, heads, _, keys = maps.shape
    counts = torch.zeros(heads, keys, dtype=torch.int64, device=maps.device)
    found = sinks.reshape(images, heads).T.to(torch.int64)
    return counts.scatter_add_(1, key.reshape(images, heads).T, found)


def background_of(piece: LayerSeen) -> Tensor | None:
    """Return which patches are background by more than half of their pixels, [image, patch].

    None where the source does not say it, or the patches are no square grid.
    """
    number = len(range(len(piece.open))[piece.image_tokens])
    side = math.isqrt(number)
    if piece.background is None or side * side != number:
        return None
    shares = adaptive_avg_pool2d(piece.background[:, None].to(torch.float32), side)
    return shares.flatten(1) > MOST


def count_background(background: Tensor, sinks: Tensor, key: Tensor, first: int) -> Sums:
    """Return sinks on background and on patches, [image, head, 2], and patches, [image, 1, 2].

    `background` [image, patch]; `sinks` and `key` [image, head] say which maps have a sink, and at
    which key; `first` is the key of the first patch.
    """
    number = background.shape[1]
    place = key - first
    on_patch = sinks & (place >= 0) & (place < number)
    there = background.gather(1, place.clamp(0, number - 1))
    return {
        "sink_background": torch.stack((on_patch & there, on_patch), -1),
        "background_patches": torch.stack((background, torch.ones_like(background)), -1).sum(
            1, keepdim=True
        ),
    }
