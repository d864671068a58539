"""Layer lens: what could be read off after every block, by the head and by nearest neighbours.

After each block the states go through the final norm. `head_class` is the accuracy of the model's
own head on the class token, `head_patches` on the mean of the patches; the last block's
`head_class` is the model's top-1 (the "logit lens", nostalgebraist 2020). `knn_class` and
`knn_patches` are the accuracies of nearest neighbours on the states themselves, which need no head
that was trained for the last block. Of the up to 1,024 images of smallest hash, every other one is
asked, and named by its 20 nearest by cosine among the rest, with weights exp(cosine / 0.07) as in
DINO (Caron et al. 2021). Those that are asked never answer for each other, so that their hits are
independent: the interval is that of other images asked of the same neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from illama.observation import Batch, LayerSeen, OutputSeen, Piece, batch_of, present, to_float64
from illama_eval.bootstrap import weights_of
from illama_eval.functional.neighbours import find_neighbours, vote
from illama_eval.results import Row
from illama_eval.study import Metric, StudyResult, Sums, layers_of, row, weigh

READOUTS = ("class", "patches")
"""What is read: the class token, or the mean of the patches."""
FEW = "fewer images than neighbours"
BROKEN = "states that are not finite"


@dataclass(frozen=True, kw_only=True)
class Lens:
    """Accuracy of the head and of nearest neighbours, read off after every block.

    Raises:
        ValueError: a number is not positive.
    """

    neighbours: int = 20
    """How many nearest images vote."""
    bank: int = 1024
    """Images of smallest hash, of which every other one is asked, and the rest may vote."""

    name: ClassVar[str] = "lens"
    wants: ClassVar[frozenset[str]] = frozenset({"lens", "tokens"})
    requires: ClassVar[frozenset[str]] = frozenset({"labels", "single_labels"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        f"{way}_{readout}": Metric(better="higher", tolerance=1e-2, interval="wilson")
        for way in ("head", "knn")
        for readout in READOUTS
    }

    def __post_init__(self) -> None:
        if min(self.neighbours, self.bank) < 1:
            raise ValueError("lens: neighbours and bank are positive numbers of images")

    def measure(self, piece: Piece) -> Sums:
        """Return hits of the head in one layer, [201, readout], and the states of the bank.

        Raises:
            ValueError: the source has no labels.
        """
        batch = batch_of(piece)
        if batch.labels is None:
            raise ValueError("lens: needs labels; give --labels")
        if isinstance(piece, OutputSeen):
            return {"images": batch.weights.sum(1), **self._bank(batch)}
        if not isinstance(piece, LayerSeen) or piece.class_index is None:
            return {}
        logits, tokens = present(piece.lens, "lens"), present(piece.tokens, "tokens")
        usable = logits.isfinite().all(-1)
        hits = (logits.argmax(-1) == batch.labels[:, None]) & usable
        states = torch.stack(
            (tokens[:, piece.class_index], tokens[:, piece.image_tokens].mean(1)), dim=1
        )
        return {
            f"head/{piece.index}": weigh(batch, hits),
            f"states/{piece.index}": self._place(batch, to_float64(states)),
        }

    def _bank(self, batch: Batch) -> Sums:
        """Return hash and class of the bank's images, at their places, and which are there."""
        assert batch.labels is not None
        return {
            "keys": self._place(batch, batch.keys),
            "labels": self._place(batch, batch.labels),
            "there": self._place(batch, torch.ones_like(batch.labels)),
        }

    def _place(self, batch: Batch, values: Tensor) -> Tensor:
        """Return values [image, ...] of the bank's images, at their ranks of hash, [bank, ...]."""
        chosen = (batch.order < self.bank).nonzero()[:, 0]
        placed = values.new_zeros(min(self.bank, batch.count), *values.shape[1:])
        if len(chosen):
            ranks = batch.order[chosen].to(values.device, non_blocking=True)
            placed[ranks] = values[chosen.to(values.device, non_blocking=True)]
        return placed

    def summarize(self, total: Sums) -> StudyResult:
        """Return every accuracy by layer, and that of the last block.

        Raises:
            ValueError: no image was seen.
        """
        if not total:
            raise ValueError("lens: no image was seen")
        there = total["there"] > 0
        asked = (torch.arange(len(there), device=there.device) % 2 == 0)[there]
        weights = weights_of(total["keys"][there][asked]).to(total["images"])
        labels = total["labels"][there]
        layers = layers_of(total, "head")
        rows: list[Row] = []
        for layer in layers:
            head = total[f"head/{layer}"] / total["images"][:, None]
            states = total[f"states/{layer}"][there]
            hits = torch.stack([self._hits(one, labels, asked) for one in states.unbind(1)], 1)
            near = weights @ hits / weights.sum(1, keepdim=True)
            at: dict[str, int | str] = {"layer": layer}
            found = (
                *self._rows("head", head, int(total["images"][0]), at),
                *self._rows("knn", near, len(hits), at),
            )
            rows += found
            if layer == layers[-1]:
                rows += self._rows("head", head, int(total["images"][0]), {})
                rows += self._rows("knn", near, len(hits), {})
        return StudyResult(rows=tuple(rows))

    def _hits(self, states: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        """Return 1 where neighbours name an image's class, else 0, [asked]; NaN if too few.

        `states` [image, channel], `labels` [image], `asked` [image], True where it does not vote.
        """
        if int((~asked).sum()) < self.neighbours or not states.isfinite().all():
            return states.new_full((int(asked.sum()),), math.nan)
        near = find_neighbours(states[asked], states[~asked], self.neighbours)
        shares = vote(near, labels[~asked], int(labels.max()) + 1, self.neighbours)
        return (shares.argmax(1) == labels[asked]).to(torch.float64)

    def _rows(
        self, way: str, values: Tensor, images: int, at: Mapping[str, int | str]
    ) -> Iterator[Row]:
        """Yield the row of every readout, of values [201, readout]."""
        for place, readout in enumerate(READOUTS):
            metric, one = f"{way}_{readout}", values[:, place]
            reason = "" if one[0].isfinite() else f"{FEW}, or {BROKEN}"
            yield row(metric, one, images, declared=self.metrics[metric], at=at, reason=reason)
