"""Attention collapse: six ways in which attention stops carrying information, one verdict each.

class_token_isolation: under a causal mask a class token in front sees no image token (Wang et al.
    2024, section 3.3). `reach` is the mass that its row puts on image tokens (registers are none),
    `feature_spread` is 1 - |mean f|^2 / mean |f|^2, times n / (n - 1), over the n images' features
    f, those that the head reads. Where the mask follows the softmax the image still leaks in
    through the softmax's denominator: reach 0, but a spread.
layer_similarity: cosine between a key's column and the same column one layer before (Zhou et al.
    2021), of attention relative to uniform attention under the mask, centred over the rows that
    may attend. Uncentred (`raw_`), maps that are merely near uniform all count as equal.
entropy_collapse: entropy of the renormalised rows (Zhai et al. 2023), in nats and as a share of the
    largest possible, the log of the number of open keys.
row_mass: the sum of a row, below one where a mask takes weight away after the softmax.
attention_sinks: share of images in which one key receives, on average over the rows that may
    attend to it, more attention than 0.3, or than 10 / tokens (`relative_`) (Gu et al. 2024).
token_norm_outliers: share of image tokens whose norm exceeds the median by over six median absolute
    deviations (after Darcet et al. 2024, whose absolute limit does not transfer between models).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from illama.observation import LayerSeen, OutputSeen, Piece, batch_of, present
from illama_eval.functional.attention_maps import (
    above,
    by_blocks,
    column_cosines,
    outliers,
    relative_scale,
    row_entropy,
    strongest_key,
    sum_and_number,
)
from illama_eval.results import Row, Verdict
from illama_eval.study import Metric, StudyResult, Sums, row, weigh

WITHOUT_HEADS = frozenset({"reach", "class_row_mass", "outlier_share"})
"""Metrics that are reported by layer, not by head."""

OF_CLASS_TOKEN = frozenset({"reach", "class_row_mass"})
NO_CLASS_TOKEN = "the model has no class token"

SHARE = Metric(interval="share")

BROKEN = "attention, tokens or features that are not finite"
CONSTANT = "no key's column varies over enough open rows in two neighbouring layers"
CLOSED = "no row puts attention on two or more open keys"
NARROW = "no key is open to enough rows"
NOTHING = {
    "similarity": CONSTANT,
    "similar_share": CONSTANT,
    "entropy": CLOSED,
    "entropy_share": CLOSED,
    "sink_share": NARROW,
    "relative_sink_share": NARROW,
    "feature_spread": "one image alone has no spread",
}
"""Why a metric of sound maps can be undefined."""

WORDS = {
    "layer_similarity": ("similar", "similar in some heads", "not similar"),
    "entropy_collapse": ("collapsed", "collapsed in some heads", "not collapsed"),
    "row_mass": ("loses mass to the mask", "loses mass in some heads", "rows sum to one"),
    "attention_sinks": ("sinks", "sinks in some heads", "no sinks"),
    "token_norm_outliers": ("outliers", "outliers", "no outliers"),
}
"""Verdicts where a layer's mean over heads is beyond the limit, where only heads are, and else."""


class ByLayer(NamedTuple):
    """A metric by layer and head."""

    layers: list[int]
    values: Tensor
    """[201, layer, head]"""


class Rule(NamedTuple):
    """When a metric by layer and head makes which verdict."""

    name: str
    metric: str
    side: int
    """1 if values above the limit count, -1 if values below do."""
    limit: float


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """The six kinds of collapse, each as numbers by layer and as a verdict with its threshold."""

    isolated_below: float = 1e-6
    """Largest reach and feature_spread of an isolated class token."""
    similar_above: float = 0.9
    """Cosine above which a token counts as similar in neighbouring layers."""
    similar_share_above: float = 0.9
    """Share of similar tokens above which layers count as similar."""
    least_rows: int = 8
    """Keys that are open to fewer rows are left out of similarity and of sinks."""
    collapsed_below: float = 0.1
    """Share of the largest possible entropy below which attention counts as collapsed."""
    whole_above: float = 0.99
    """Row mass from which rows count as summing to one."""
    sink_above: float = 0.3
    """Mean attention received above which a key is a sink."""
    relative_sink_above: float = 10.0
    """The same as a multiple of 1 / tokens."""
    sink_share_above: float = 0.5
    """Share of images with a sink above which a head has one."""
    deviations: float = 6.0
    """Median absolute deviations above the median from which a norm is an outlier."""
    outliers_above: float = 0.01
    """Share of image tokens with outlying norms above which a layer has outliers."""

    name: ClassVar[str] = "collapse"
    wants: ClassVar[frozenset[str]] = frozenset({"used", "previous", "tokens", "features"})
    requires: ClassVar[frozenset[str]] = frozenset()
    metrics: ClassVar[Mapping[str, Metric]] = {
        "feature_spread": Metric(),
        "reach": Metric(),
        "class_row_mass": Metric(),
        "similarity": Metric(unit="cosine"),
        "similar_share": SHARE,
        "raw_similarity": Metric(unit="cosine"),
        "raw_similar_share": SHARE,
        "entropy": Metric(unit="nats"),
        "entropy_share": Metric(),
        "row_mass": Metric(),
        "sink_share": SHARE,
        "relative_sink_share": SHARE,
        "outlier_share": SHARE,
    }

    def measure(self, piece: Piece) -> Sums:
        """Return sums of one layer, [201, head, (sum, number)] by metric, or of the features."""
        batch = batch_of(piece)
        if isinstance(piece, OutputSeen):
            features = present(piece.features, "features").to(torch.float64)
            return {
                "images": batch.weights.sum(1),
                "features": weigh(batch, features),
                "squares": weigh(batch, features.square().sum(-1)),
            }
        if not isinstance(piece, LayerSeen):
            return {}
        seen = self._look_at_maps(piece)
        tokens = present(piece.tokens, "tokens")[:, piece.image_tokens]
        norms = tokens.to(torch.float64).norm(dim=-1)
        share = sum_and_number(outliers(norms, self.deviations), norms.isfinite().all(-1))
        seen["outlier_share"] = share[:, None]
        return {f"{metric}/{piece.index}": weigh(batch, pair) for metric, pair in seen.items()}

    def _look_at_maps(self, piece: LayerSeen) -> Sums:
        """Return every map's statistics by metric, [image, head, (sum, number)]."""
        used = present(piece.used, "used")
        seen = self._look_at_rows(used, piece)
        if piece.index > 1:
            seen |= self._compare(used, present(piece.previous, "previous"), piece)
        return {metric: pair.reshape(*used.shape[:2], 2) for metric, pair in seen.items()}

    def _look_at_rows(self, used: Tensor, piece: LayerSeen) -> Sums:
        """Return reach, masses, entropies and sinks of every map, [map, (sum, number)]."""
        mass, entropy, strongest = by_blocks(
            lambda maps: (
                maps.sum(-1),
                row_entropy(maps, piece.open),
                strongest_key(maps, piece.open, self.least_rows)[:, None],
            ),
            used,
        )
        seen = {
            "row_mass": mass,
            "entropy": entropy,
            "entropy_share": entropy / piece.open.sum(-1).to(torch.float64).log(),
            "sink_share": above(strongest, self.sink_above),
            "relative_sink_share": above(strongest, self.relative_sink_above / mass.shape[-1]),
        }
        if piece.class_index is not None:
            class_row = used[:, :, piece.class_index].flatten(0, 1).to(torch.float64)
            seen["reach"] = class_row[:, piece.image_tokens].sum(-1, keepdim=True)
            seen["class_row_mass"] = mass[:, piece.class_index, None]
        finite = mass.sum(-1).isfinite()
        return {metric: sum_and_number(values, finite) for metric, values in seen.items()}

    def _compare(self, used: Tensor, previous: Tensor, piece: LayerSeen) -> Sums:
        """Return similarities of every map with the one a layer before, [map, (sum, number)]."""
        scale = relative_scale(piece.open, piece.factor)
        centred, raw, whole = by_blocks(
            lambda maps, before: (
                *column_cosines(maps * scale, before * scale, piece.open),
                (maps + before).sum(-1),
            ),
            used,
            previous,
        )
        centred = centred.where(piece.open.sum(0) >= self.least_rows, math.nan)
        seen = {
            "similarity": centred,
            "similar_share": above(centred, self.similar_above),
            "raw_similarity": raw,
            "raw_similar_share": above(raw, self.similar_above),
        }
        finite = whole.sum(-1).isfinite()
        return {metric: sum_and_number(values, finite) for metric, values in seen.items()}

    def summarize(self, total: Sums) -> StudyResult:
        """Return every metric by layer and head and as a whole, and the six verdicts.

        Raises:
            ValueError: no image was seen.
        """
        images = int(total["images"][0]) if total else 0
        if not images:
            raise ValueError("collapse: no image was seen")
        spread = _feature_spread(total, images)
        rows = [_row("feature_spread", spread, images)]
        seen = {metric: _gather(total, metric) for metric in self.metrics}
        del seen["feature_spread"]
        for metric, by_layer in seen.items():
            rows += _rows(metric, by_layer, images)
        isolation = judge_isolation(seen, float(spread[0]), self.isolated_below)
        others = (judge(rule, seen[rule.metric]) for rule in self._rules())
        return StudyResult(rows=tuple(rows), verdicts=(isolation, *others))

    def _rules(self) -> tuple[Rule, ...]:
        """Return how the numbers by layer and head become verdicts."""
        return (
            Rule("layer_similarity", "similar_share", 1, self.similar_share_above),
            Rule("entropy_collapse", "entropy_share", -1, self.collapsed_below),
            Rule("row_mass", "row_mass", -1, self.whole_above),
            Rule("attention_sinks", "sink_share", 1, self.sink_share_above),
            Rule("token_norm_outliers", "outlier_share", 1, self.outliers_above),
        )


def judge_isolation(seen: Mapping[str, ByLayer], spread: float, limit: float) -> Verdict:
    """Return whether the class token sees the image: isolated, leaks, attends or undecided."""
    if not seen["reach"].layers:
        return Verdict(name="class_token_isolation", verdict="undecided", reason=NO_CLASS_TOKEN)
    by_layer = seen["reach"].values[0].mean(-1)
    reach = float(by_layer.amax())
    told = f"reach {reach:.3g} (limit {limit:g}), feature_spread {spread:.3g} (limit {limit:g})"
    if reach > limit:
        verdict = "attends"
    elif math.isnan(reach) or math.isnan(spread):
        verdict = "undecided"
    elif spread <= limit:
        verdict = "isolated"
    else:
        verdict = "leaks through the denominator"
        masses = seen["class_row_mass"].values[0].mean(-1).tolist()
        told += f"; row_mass of the class row by layer: {', '.join(f'{m:.3g}' for m in masses)}"
    return Verdict(name="class_token_isolation", verdict=verdict, reason=told)


def judge(rule: Rule, seen: ByLayer) -> Verdict:
    """Return the verdict of one rule: for a layer's mean over heads, else for single heads."""
    values = seen.values[0] * rule.side
    if values.isnan().all():
        return Verdict(name=rule.name, verdict="undecided", reason=_why(rule.metric))
    limit = rule.limit * rule.side
    layers, heads = (values.nanmean(-1) > limit).sum(), (values > limit).sum()
    word = WORDS[rule.name][0 if layers else 1 if heads else 2]
    place = int(values.nan_to_num(-math.inf).argmax())
    peak, where = float(values.flatten()[place] * rule.side), seen.layers[place // values.shape[1]]
    sign, extreme = (">", "highest") if rule.side > 0 else ("<", "lowest")
    told = f"{rule.metric} {sign} {rule.limit:g} in {layers} of {len(values)} layers"
    if rule.metric not in WITHOUT_HEADS:
        told += f" (means over heads) and in {heads} of {values.numel()} heads"
    told += f"; {extreme} {peak:.3g} in layer {where}"
    if undefined := int(values.isnan().sum()):
        told += f"; undefined in {undefined} heads"
    return Verdict(name=rule.name, verdict=word, reason=told)


def _feature_spread(total: Sums, images: int) -> Tensor:
    """Return 1 - |mean f|^2 / mean |f|^2 times n / (n - 1), [201]; NaN for one image alone.

    The factor takes away the bias of |mean f|^2, which holds the spread's own n-th part.
    """
    number = total["images"]
    mean_square = total["features"].square().sum(-1) / number
    spread = (1 - mean_square / total["squares"]) * number / (number - 1)
    return spread.clamp(0, 1) if images > 1 else torch.full_like(spread, math.nan)


def _gather(total: Sums, metric: str) -> ByLayer:
    """Return a metric of all layers that have it."""
    keys = [key for key in total if key.startswith(f"{metric}/")]
    layers = sorted(int(key.split("/")[1]) for key in keys)
    if not layers:
        return ByLayer([], total["images"].new_full((len(total["images"]), 0, 0), math.nan))
    pairs = torch.stack([total[f"{metric}/{layer}"] for layer in layers], dim=1)
    return ByLayer(layers, pairs[..., 0] / pairs[..., 1])


def _rows(metric: str, seen: ByLayer, images: int) -> Iterator[Row]:
    """Yield the whole (mean; of `reach` the largest layer), each layer, and each head."""
    by_layer = seen.values.mean(-1)
    largest = metric == "reach" and seen.layers
    whole = by_layer.amax(-1) if largest else by_layer.mean(-1)
    absent = metric in OF_CLASS_TOKEN and not seen.layers
    yield _row(metric, whole, images, reason=NO_CLASS_TOKEN if absent else "")
    for place, layer in enumerate(seen.layers):
        yield _row(metric, by_layer[:, place], images, {"layer": layer})
        if metric not in WITHOUT_HEADS:
            for head, values in enumerate(seen.values[:, place].unbind(-1), start=1):
                yield _row(metric, values, images, {"layer": layer, "head": head})


def _row(
    metric: str,
    values: Tensor,
    images: int,
    at: Mapping[str, int | str] | None = None,
    *,
    reason: str = "",
) -> Row:
    """Return the row of values [201], with the reason where it is undefined."""
    reason = reason or ("" if values[0].isfinite() else _why(metric))
    return row(metric, values, images, declared=Collapse.metrics[metric], at=at, reason=reason)


def _why(metric: str) -> str:
    """Return why a metric can be undefined."""
    return f"{NOTHING[metric]}, or {BROKEN}" if metric in NOTHING else BROKEN
