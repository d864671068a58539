"""Attention collapse: ways in which attention stops carrying information, one verdict each.

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
    `sink_position` says where they are: class token, register, corner or another patch. Where the
    images have masks, `sink_background` is the share of the sinks on patches that are on background
    by more than half of the patch's pixels, beside the share of all patches, `background_patches`.
token_norm_outliers: share of images with a patch whose norm is far beyond the upper tail of its own
    image: over 4 times the median m, and log(norm / m) over 6.5 times log(q / m), with q the 90 %
    quantile (after Darcet et al. 2024, whose absolute limit does not transfer between models).
    Norms with a Pareto tail pass with 1.4e-5 of the tokens, lighter tails with fewer.
massive_activations: share of images whose largest activation exceeds 100 and 1000 times the median
    (Sun et al. 2024), with its token and channel.
token_rank: |X - mean token| / |X| of the patches' states, 0 if all are alike (Dong et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from illama.observation import LayerSeen, OutputSeen, Piece, batch_of, present
from illama_eval.functional.attention_maps import (
    above,
    column_cosines,
    relative_scale,
    row_entropy,
    strongest_key,
    sum_and_number,
)
from illama_eval.functional.layer_rules import ByLayer, Rule, judge
from illama_eval.functional.map_pass import column_moments, sum_maps
from illama_eval.functional.sinks import (
    Sinks,
    background_of,
    count_background,
    count_sinks,
    kinds_of_tokens,
)
from illama_eval.functional.token_states import (
    count_of_each,
    false_alarms,
    massive_activations,
    outlying_norms,
    residual,
)
from illama_eval.results import Row, Verdict
from illama_eval.study import Metric, StudyResult, Sums, layers_of, row, weigh

OF_TOKENS = ("outlier_share", "outlier_images", "massive_ratio", "massive_images", "token_residual")
WITHOUT_HEADS = frozenset({"reach", "class_row_mass", *OF_TOKENS})
"""Metrics that are reported by layer, not by head."""

AS_A_WHOLE = frozenset({"feature_spread", "sink_position", "sink_background", "background_patches"})
"""Metrics that are not reported by layer."""

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

BY_DESIGN = "the mask follows the softmax and takes weight away by design: no alarm"


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """The kinds of collapse, each as numbers by layer and as a verdict with its threshold."""

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
    collapsed_share_above: float = 0.1
    """Share of collapsed heads up to which a model is healthy."""
    whole_above: float = 0.99
    """Row mass from which rows count as summing to one."""
    sink_above: float = 0.3
    """Mean attention received above which a key is a sink."""
    relative_sink_above: float = 10.0
    """The same as a multiple of 1 / tokens."""
    sink_share_above: float = 0.5
    """Share of images with a sink above which a head has one."""
    outlier_ratio: float = 4.0
    """Times the median of its image that an outlying norm exceeds."""
    outlier_lengths: float = 6.5
    """Lengths of its image's upper tail, in logs, that an outlying norm exceeds."""
    outlier_images_above: float = 0.005
    """Share of images with an outlying norm above which a layer has outliers."""
    massive_above: float = 1000.0
    """Times the median of its image that a massive activation exceeds (Sun et al. 2024)."""
    massive_size: float = 100.0
    """What a massive activation exceeds, besides."""
    alike_below: float = 0.1
    """Residual below which a layer's tokens count as alike."""

    name: ClassVar[str] = "collapse"
    wants: ClassVar[frozenset[str]] = frozenset(
        {"used", "previous", "tokens", "features", "background"}
    )
    optional: ClassVar[frozenset[str]] = frozenset({"background"})
    """Without masks nothing is said of background."""
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
        "sink_position": Metric(),
        "sink_background": SHARE,
        "background_patches": Metric(),
        "outlier_share": SHARE,
        "outlier_images": SHARE,
        "massive_ratio": Metric(unit="ratio", least_images=100),
        "massive_images": SHARE,
        "token_residual": Metric(),
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
        seen, counts = self._look_at_maps(piece)
        of_tokens, massive = self._look_at_tokens(piece)
        weighed = {metric: weigh(batch, pair) for metric, pair in (seen | of_tokens).items()}
        sums = weighed | counts | massive
        return {f"{metric}/{piece.index}": value for metric, value in sums.items()}

    def _look_at_tokens(self, piece: LayerSeen) -> tuple[Sums, Sums]:
        """Return the patches' statistics by metric, [image, 1, (sum, number)], and counts.

        The counts say in which token and which channel the massive activations are.
        """
        patches = present(piece.tokens, "tokens")[:, piece.image_tokens]
        states = patches.to(torch.float64)
        outlying = outlying_norms(
            states.square().sum(-1).sqrt(), self.outlier_ratio, self.outlier_lengths
        )
        largest, median, place = massive_activations(patches)
        finite = largest.isfinite()
        massive = (largest > self.massive_above * median) & (largest > self.massive_size) & finite
        values = {
            "outlier_share": outlying,
            "outlier_images": outlying.amax(-1, keepdim=True),
            "massive_ratio": (largest / median)[:, None],
            "massive_images": massive.to(torch.float64)[:, None],
            "token_residual": residual(states)[:, None],
        }
        pairs = {metric: sum_and_number(each, finite)[:, None] for metric, each in values.items()}
        tokens, channels = states.shape[1:]
        return pairs, {
            "massive_tokens": count_of_each(place // channels, massive, tokens),
            "massive_channels": count_of_each(place % channels, massive, channels),
        }

    def _look_at_maps(self, piece: LayerSeen) -> tuple[Sums, Sums]:
        """Return every map's statistics by metric, [image, head, (sum, number)], and counts.

        The counts are those of images in which a head's sink is at a key, [head, key], and of
        images whose mask follows the softmax.
        """
        used = present(piece.used, "used")
        seen, strongest, key = self._look_at_rows(used, piece)
        if piece.index > 1:
            seen |= self._compare(used, present(piece.previous, "previous"), piece)
        pairs = {metric: pair.reshape(*used.shape[:2], 2) for metric, pair in seen.items()}
        sinks = (strongest > self.sink_above).reshape(used.shape[:2])
        counts = {
            "sink_keys": count_sinks(sinks, key, used),
            "masked_after": _masked_after(piece) * len(used),
            "sink_kinds": kinds_of_tokens(piece) * len(used),
        }
        background = background_of(piece)
        if background is not None:
            first = piece.image_tokens.start or 0
            pairs |= count_background(background, sinks, key.reshape(sinks.shape), first)
            counts["sink_images"] = pairs["sink_background"][..., 1].any(1).sum()
        return pairs, counts

    def _look_at_rows(self, used: Tensor, piece: LayerSeen) -> tuple[Sums, Tensor, Tensor]:
        """Return reach, masses, entropies and sinks of every map, [map, (sum, number)].

        After them what the strongest key receives, and which key it is, [map, 1] each.
        """
        sums = sum_maps(used, causal=piece.form == "lower")
        mass, entropy = sums.mass, row_entropy(sums, piece.open)
        found = strongest_key(sums, piece.open, self.least_rows)
        strongest, key = (each[:, None] for each in found)
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
        pairs = {metric: sum_and_number(values, finite) for metric, values in seen.items()}
        return pairs, strongest.where(finite[:, None], math.nan), key

    def _compare(self, used: Tensor, previous: Tensor, piece: LayerSeen) -> Sums:
        """Return similarities of every map with the one a layer before, [map, (sum, number)]."""
        factor, form = piece.factor, piece.form
        plain = factor is not None and form in {"full", "lower"}
        scale = None if plain else relative_scale(piece.open, factor)
        moments = column_moments(used, previous, piece.open, scale, causal=form == "lower")
        centred, raw = column_cosines(moments, piece.open)
        centred = centred.where(piece.open.sum(0) >= self.least_rows, math.nan)
        seen = {
            "similarity": centred,
            "similar_share": above(centred, self.similar_above),
            "raw_similarity": raw,
            "raw_similar_share": above(raw, self.similar_above),
        }
        finite = (moments.sums[0] + moments.sums[1]).sum(-1).isfinite()
        return {metric: sum_and_number(values, finite) for metric, values in seen.items()}

    def summarize(self, total: Sums) -> StudyResult:
        """Return every metric by layer and head and as a whole, and the verdicts.

        Raises:
            ValueError: no image was seen.
        """
        images = int(total["images"][0]) if total else 0
        if not images:
            raise ValueError("collapse: no image was seen")
        spread = _feature_spread(total, images)
        rows = [_row("feature_spread", spread, images)]
        by_layer = (metric for metric in self.metrics if metric not in AS_A_WHOLE)
        seen = {metric: _gather(total, metric) for metric in by_layer}
        for metric, values in seen.items():
            rows += _rows(metric, values, images)
        rows += Sinks.of(total).rows(self.metrics, images, BROKEN)
        isolation = judge_isolation(seen, float(spread[0]), self.isolated_below)
        notes = self._notes(total)
        others = (
            judge(rule, seen[rule.metric], _why(rule.metric), notes.get(rule.name, ""))
            for rule in self._rules(bool(notes["row_mass"]))
        )
        return StudyResult(rows=tuple(rows), verdicts=(isolation, *others))

    def _rules(self, by_design: bool) -> tuple[Rule, ...]:
        """Return how the numbers by layer and head become verdicts.

        `by_design` says that the mask follows the softmax, so that rows cannot sum to one.
        """
        similar = ("similar", "similar in some heads", "not similar")
        collapsed = ("collapsed", "collapsed in some heads", "not collapsed")
        losing = ("loses mass", "loses mass in some heads", "rows sum to one")
        designed = ("below one by design", "below one by design", "rows sum to one")
        sinks = ("sinks", "sinks in some heads", "no sinks")
        return (
            Rule("layer_similarity", "similar_share", 1, self.similar_share_above, similar),
            Rule(
                *("entropy_collapse", "entropy_share", -1, self.collapsed_below, collapsed),
                least_share=self.collapsed_share_above,
            ),
            Rule("row_mass", "row_mass", -1, self.whole_above, designed if by_design else losing),
            Rule("attention_sinks", "sink_share", 1, self.sink_share_above, sinks),
            Rule(
                *("token_norm_outliers", "outlier_images", 1, self.outlier_images_above),
                ("outliers", "outliers", "no outliers"),
            ),
            Rule(
                *("massive_activations", "massive_images", 1, self.outlier_images_above),
                ("massive", "massive", "none"),
            ),
            Rule(
                *("token_rank", "token_residual", -1, self.alike_below),
                ("tokens alike", "tokens alike", "tokens differ"),
            ),
        )

    def _notes(self, total: Sums) -> dict[str, str]:
        """Return what is added to the verdicts, by their names."""
        designed = any(bool(value) for key, value in total.items() if key.startswith("masked_aft"))
        rate = false_alarms(self.outlier_lengths)
        return {
            "row_mass": BY_DESIGN if designed else "",
            "attention_sinks": Sinks.of(total).describe(),
            "token_norm_outliers": f"a Pareto tail alone puts {rate:.2g} of the tokens there",
            "massive_activations": _massive_place(total),
        }


def _masked_after(piece: LayerSeen) -> Tensor:
    """Return 1 where the mask follows the softmax and takes weight away, else 0, int64."""
    if piece.factor is None:
        return torch.zeros((), dtype=torch.int64, device=piece.open.device)
    return (piece.factor != 1).any().to(torch.int64)


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


def _massive_place(total: Sums) -> str:
    """Return in words where the massive activations are most often."""
    layers = layers_of(total, "massive_tokens")
    where = [
        torch.stack([total[f"massive_{axis}/{layer}"] for layer in layers]).sum(0)
        for axis in ("tokens", "channels")
    ]
    if not where[0].any():
        return ""
    token, channel = (int(counts.argmax()) + 1 for counts in where)
    return f"most often in patch {token}, and in channel {channel}"


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
    layers = layers_of(total, metric)
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
