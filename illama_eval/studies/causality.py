"""Causality: how much the states of earlier patches depend on later ones.

Of each of 256 images the first 25, 50 or 75 % of the patches stay, in raster order, and the rest
are replaced by those of another image; the hash of its id chooses both. Images that this leaves as
they are, because the other has the same patches there, are left out. With x the states of the
patches that stay, after one block, and x' the same with the rest replaced,

    kept_change = mean over images of |x' - x| / |x|   (Frobenius norms),

exactly zero for a strictly causal model, whose two passes have one shape and therefore one
rounding. `class_change` is the same for the class token, which is to depend on all patches where
it comes last. Beside what goes in and comes out, the attention maps name the edge: `later_edges` is
the share of pairs of a query and a later key, of all heads, that carry weight.

The released mask multiplies the softmax, whose denominator runs over all keys: no later value is
read, yet every earlier state depends on later pixels, so there is no exact cache of a prefix. Under
the additive mask (paper, equation 1) there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from illama.observation import LayerSeen, OutputSeen, Piece, batch_of, present, to_float64
from illama_eval.probe import SHARES, Probe
from illama_eval.results import Row, Verdict
from illama_eval.study import Metric, StudyResult, Sums, layers_of, row, weigh

MEANS = ("kept_change", "class_change", "leaking_images")
"""Metrics that are means over images, by layer."""
UNCHANGED = "no image has another one to take other patches from, or its states are not finite"
UNSEEN = "one value for all images: no replicates"
MOST_EDGES = 0.5
"""Share of the edges to later tokens from which attention counts as bidirectional."""


class Edge(NamedTuple):
    """The first weight on a later key, all numbers from 1."""

    layer: int
    head: int
    query: int
    key: int


@dataclass(frozen=True, kw_only=True)
class Causality:
    """Change of earlier patches' states when later patches are replaced, and where it comes from.

    Raises:
        ValueError: the number of images is not positive.
    """

    probed: int = 256
    """Images whose later patches are replaced, those of smallest hash."""
    rounding: float = 1e-6
    """Relative change of a token's state up to which it counts as rounding."""
    bidirectional_above: float = 0.25
    """Change of the kept patches above which a model whose maps are not seen is bidirectional."""

    name: ClassVar[str] = "causality"
    wants: ClassVar[frozenset[str]] = frozenset({"tokens", "used", "replaced"})
    optional: ClassVar[frozenset[str]] = frozenset({"used"})
    """Without maps the verdict rests on what goes in and comes out."""
    requires: ClassVar[frozenset[str]] = frozenset()
    metrics: ClassVar[Mapping[str, Metric]] = {
        "kept_change": Metric(unit="ratio"),
        "class_change": Metric(unit="ratio"),
        "leaking_images": Metric(interval="wilson"),
        "later_edges": Metric(),
    }

    def __post_init__(self) -> None:
        _ = self.probes

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Two passes over some images: as they are, and with the later patches of others."""
        return (Probe(rest="replaced", kept=SHARES, images=self.probed),)

    def measure(self, piece: Piece) -> Sums:
        """Return changes of one layer by share kept, [201, share], and weights on later keys."""
        if not isinstance(piece, LayerSeen) or piece.changed is None:
            batch = batch_of(piece)
            return {"seen": torch.tensor(batch.size)} if isinstance(piece, OutputSeen) else {}
        batch, original = batch_of(piece), piece.changed.original
        assert isinstance(original, LayerSeen)
        before = to_float64(present(original.tokens, "tokens"))
        after = to_float64(present(piece.tokens, "tokens"))
        kept = piece.changed.kept
        patches = len(range(before.shape[1])[piece.image_tokens])
        counts = torch.tensor(self.probes[0].counts(patches))
        own = counts.to(kept.device, non_blocking=True)
        share = (kept[:, None] == own).to(torch.float64)
        if piece.changed.differs is not None:
            share = share * piece.changed.differs[:, None]
        seen = self._changes(before, after, kept, piece)
        sums = {key: weigh(batch, value[:, None] * share) for key, value in seen.items()}
        sums["images"] = weigh(batch, share)
        if original.used is not None:
            sums |= _later(original.used)
        return {f"{key}/{piece.index}": value for key, value in sums.items()}

    def _changes(
        self, before: Tensor, after: Tensor, kept: Tensor, piece: LayerSeen
    ) -> dict[str, Tensor]:
        """Return each image's changes, [image], of states [image, token, channel]."""
        size, moved = before.norm(dim=-1), (after - before).norm(dim=-1)
        patches = piece.image_tokens
        stays = torch.arange(size[:, patches].shape[1], device=kept.device) < kept[:, None]
        leaks = ((moved > self.rounding * size)[:, patches] & stays).any(1).to(torch.float64)
        change = (moved[:, patches] * stays).norm(dim=1) / (size[:, patches] * stays).norm(dim=1)
        finite = (size + moved).isfinite().all(1)
        own = torch.full_like(change, math.nan)
        if piece.class_index is not None:
            own = moved[:, piece.class_index] / size[:, piece.class_index]
        return {
            "kept_change": change.where(finite, math.nan),
            "class_change": own.where(finite, math.nan),
            "leaking_images": leaks.where(finite, math.nan),
        }

    def summarize(self, total: Sums) -> StudyResult:
        """Return the changes by layer and share kept, the later edges, and the verdict.

        Raises:
            ValueError: no image was seen.
        """
        if not total:
            raise ValueError("causality: no image was seen")
        layers = layers_of(total, "images")
        if not layers:
            nothing = Verdict(name="causality", verdict="undecided", reason=UNCHANGED)
            return StudyResult(rows=tuple(self._absent()), verdicts=(nothing,))
        images = total[f"images/{layers[0]}"]
        seen = {
            metric: torch.stack([total[f"{metric}/{layer}"] for layer in layers], 1)
            for metric in MEANS
        }
        rows = [each for metric in MEANS for each in self._rows(metric, seen[metric], images)]
        maps = _maps_of(total, layers)
        rows += self._edge_rows(maps, int(images[0].sum()))
        changes = seen["kept_change"][0].sum(-1) / images[0].sum()
        leaks = seen["leaking_images"][0].sum(-1)
        return StudyResult(rows=tuple(rows), verdicts=(self.judge(changes, leaks, maps),))

    def _absent(self) -> Iterator[Row]:
        for metric, declared in self.metrics.items():
            yield row(metric, math.nan, 0, declared=declared, reason=UNCHANGED)

    def _rows(self, metric: str, sums: Tensor, images: Tensor) -> Iterator[Row]:
        """Yield the largest layer, each layer, and each layer by share, of [201, layer, share]."""
        declared = self.metrics[metric]
        by_layer = sums.sum(-1) / images.sum(-1, keepdim=True)
        count, counts = int(images[0].sum()), images[0].tolist()
        yield row(metric, by_layer.amax(1), count, declared=declared, reason=_why(by_layer))
        for index, layer in enumerate(by_layer.unbind(1), start=1):
            at: dict[str, int | str] = {"layer": index}
            yield row(metric, layer, count, declared=declared, at=at, reason=_why(layer))
            for place, share in enumerate(SHARES):
                values = sums[:, index - 1, place] / images[:, place]
                at = {"layer": index, "kept": f"{100 * share:g} %"}
                if counts[place]:
                    number = int(counts[place])
                    yield row(metric, values, number, declared=declared, at=at, reason=_why(values))

    def _edge_rows(self, maps: Maps | None, images: int) -> Iterator[Row]:
        declared = self.metrics["later_edges"]
        if maps is None:
            why = "the attention maps are not seen"
            yield row("later_edges", math.nan, images, declared=declared, reason=why)
            return
        mean = float(maps.open_shares.mean())
        yield row("later_edges", mean, maps.images, declared=declared, reason=UNSEEN)
        for layer, value in enumerate(maps.open_shares.tolist(), start=1):
            at = {"layer": layer}
            yield row("later_edges", value, maps.images, declared=declared, at=at, reason=UNSEEN)

    def judge(self, changes: Tensor, leaks: Tensor, maps: Maps | None) -> Verdict:
        """Return the verdict from changes and leaking images by layer, [layer], and the maps."""
        first = next((i for i, number in enumerate(leaks.tolist(), start=1) if number > 0), None)
        edge = None if maps is None else maps.edge
        if not (leaks.isfinite().all() and changes.isfinite().all()):
            return Verdict(name="causality", verdict="undecided", reason=UNCHANGED)
        most, peak = int(changes.argmax()) + 1, float(changes.max())
        told = "no patch's state changes when later patches do"
        if first is not None:
            told = (
                f"replacing later patches changes the earlier ones' states from block {first} on "
                f"({float(changes[first - 1]):.3g} there, at most {peak:.3g}, in block {most})"
            )
        if maps is not None:
            told += f"; {maps.describe(first is not None)}"
        word = self._word(first, edge, peak, maps)
        return Verdict(name="causality", verdict=word, reason=told)

    def _word(self, first: int | None, edge: Edge | None, peak: float, maps: Maps | None) -> str:
        if edge is None and first is None:
            return "causal"
        if maps is None:
            return (
                "bidirectional" if peak > self.bidirectional_above else f"leaks from block {first}"
            )
        if edge is None:
            return f"leaks through the denominator from block {first}"
        if float(maps.open_shares.mean()) > MOST_EDGES:
            return "bidirectional"
        return f"leaks from block {edge.layer}"


class Maps(NamedTuple):
    """What the attention maps show of weights on later keys."""

    open_shares: Tensor
    """Share of the pairs of a query and a later key that carry weight, [layer]."""
    masses: Tensor
    """Mean sum of a row, [layer]."""
    edge: Edge | None
    """The first weight on a later key."""
    tokens: int
    images: int

    def describe(self, leaks: bool) -> str:
        """Return in words what the maps show."""
        if self.edge is not None:
            layer, head, query, key = self.edge
            return (
                f"first weight on a later token: block {layer}, head {head}, token {query} to "
                f"token {key} of {self.tokens}"
            )
        if not leaks:
            return "no weight on a later token in any map"
        masses = ", ".join(f"{mass:.3g}" for mass in self.masses.tolist())
        return (
            "no weight on a later token in any map, but their scores enter the softmax's "
            f"denominator; mean row mass by block: {masses}"
        )


def _later(used: Tensor) -> Sums:
    """Return counts of weights above the diagonal by query and key, and by head and query."""
    later = used.triu(1) > 0
    maps, heads = used.shape[:2]
    return {
        "later": later.sum((0, 1)),
        "later_rows": later.any(-1).sum(0),
        "pairs": torch.full((), maps * heads, device=used.device),
        "mass": to_float64(used.sum(-1, dtype=torch.float64).mean((1, 2))).nansum(),
        "maps": torch.full((), maps, device=used.device),
    }


def _maps_of(total: Sums, layers: list[int]) -> Maps | None:
    """Return what the maps of all layers show; None where they were not seen."""
    if f"later/{layers[0]}" not in total:
        return None
    counts = [total[f"later/{layer}"] for layer in layers]
    tokens = counts[0].shape[0]
    edges = tokens * (tokens - 1) / 2
    shares = [
        count.sum() / (total[f"pairs/{layer}"] * edges)
        for layer, count in zip(layers, counts, strict=True)
    ]
    masses = [total[f"mass/{layer}"] / total[f"maps/{layer}"] for layer in layers]
    edge = next(
        (
            _first_edge(layer, count, total[f"later_rows/{layer}"])
            for layer, count in zip(layers, counts, strict=True)
            if count.any()
        ),
        None,
    )
    images = int(total[f"maps/{layers[0]}"])
    return Maps(torch.stack(shares), torch.stack(masses), edge, tokens, images)


def _first_edge(layer: int, count: Tensor, rows: Tensor) -> Edge:
    """Return the first edge of counts [query, key] and rows [head, query]."""
    query = int(count.any(1).nonzero()[0])
    key = int(count[query].nonzero()[0])
    head = int(rows[:, query].nonzero()[0])
    return Edge(layer, head + 1, query + 1, key + 1)


def _why(values: Tensor) -> str:
    return "" if values[0].isfinite().all() else UNCHANGED
