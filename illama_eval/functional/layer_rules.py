"""Metrics by layer and head, and the rules that turn them into verdicts."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from illama_eval.results import Verdict


class ByLayer(NamedTuple):
    """A metric by layer and head."""

    layers: list[int]
    values: Tensor
    """[201, layer, head]; one head for what is not by head."""


class Rule(NamedTuple):
    """When a metric by layer and head makes which verdict."""

    name: str
    metric: str
    side: int
    """1 if values above the limit count, -1 if values below do."""
    limit: float
    words: tuple[str, str, str]
    """Verdicts where a layer's mean over heads is beyond the limit, where only heads are, and
    else."""
    least_share: float = 0.0
    """Share of all heads beyond the limit up to which heads alone make no verdict."""


def judge(rule: Rule, seen: ByLayer, why: str, note: str = "") -> Verdict:
    """Return the verdict of one rule: for a layer's mean over heads, else for single heads.

    `why` is the reason where nothing is defined; `note` is added to what decided.
    """
    values = seen.values[0] * rule.side
    if values.isnan().all():
        return Verdict(name=rule.name, verdict="undecided", reason=why)
    limit, number = rule.limit * rule.side, values.numel()
    layers, heads = int((values.nanmean(-1) > limit).sum()), int((values > limit).sum())
    some = heads > rule.least_share * number
    word = rule.words[0 if layers and some else 1 if heads and some else 2]
    told = f"{_counts(rule, values, layers, heads)}; {_extreme(rule, seen)}"
    if undefined := int(values.isnan().sum()):
        told += f"; undefined in {undefined} heads"
    if heads and not some:
        told += f"; a verdict needs more than {rule.least_share:.0%} of the heads"
    return Verdict(name=rule.name, verdict=word, reason=f"{told}; {note}" if note else told)


def _counts(rule: Rule, values: Tensor, layers: int, heads: int) -> str:
    sign = ">" if rule.side > 0 else "<"
    told = f"{rule.metric} {sign} {rule.limit:g} in {layers} of {len(values)} layers"
    if values.shape[1] > 1:
        told += f" (means over heads) and in {heads} of {values.numel()} heads"
    return told


def _extreme(rule: Rule, seen: ByLayer) -> str:
    values = seen.values[0] * rule.side
    place = int(values.nan_to_num(-math.inf).argmax())
    peak, where = float(values.flatten()[place] * rule.side), seen.layers[place // values.shape[1]]
    return f"{'highest' if rule.side > 0 else 'lowest'} {peak:.3g} in layer {where}"
