"""Shape bias: by which of two conflicting cues, shape or texture, pictures are decided.

decision = argmax over categories of the mean probability of the category's classes; shape_bias =
shape / (shape + texture), counted over the pictures whose shape and texture differ and that are
decided for either (Geirhos et al. 2019; Wang et al. 2024, section 4.4 and Table 8). Pictures whose
cues agree count for category_accuracy alone: kept as shape they would raise the bias. Its interval
comes from the shared replicates; shape_bias_wilson has Wilson's for the same counts beside it,
where the pictures are independent. Those of Geirhos et al. are not: 1,200 pictures of 160 shapes
and 48 textures, whose replicates weigh shapes and textures, so that AlexNet's 42.9 % is 31 to 55 %
and not 39 to 47 %.
error_consistency is the kappa of being right by shape, over all pictures that both decided on
(Geirhos et al. 2020); no response is no right answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from msgspec.structs import replace
from torch import Tensor

from illama.observation import Batch, OutputSeen, Piece, batch_of, present, to_float64
from illama_eval.cue_conflict import Categories, Observer
from illama_eval.functional.predictions import find_usable
from illama_eval.results import Row, Verdict
from illama_eval.statistics import wilson_interval
from illama_eval.study import Metric, StudyResult, Sums, record, row, weigh

NO_DECISION = -1

UNDECIDED = "no picture with conflicting cues was decided for either"
COUNTED = ("shape", "texture", "conflict")
"""What is counted by the category of the shape, [201, category]."""


@dataclass(frozen=True, kw_only=True)
class ShapeBias:
    """Share of shape among decisions for shape or texture, by category and beside observers."""

    categories: Categories = ()
    """Names, each with the head's indices whose probabilities are averaged."""
    observers: tuple[Observer, ...] = ()
    """Those who are measured on the same pictures, and compared."""

    name: ClassVar[str] = "shape_bias"
    wants: ClassVar[frozenset[str]] = frozenset({"logits"})
    requires: ClassVar[frozenset[str]] = frozenset({"cues"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        "shape_bias": Metric(tolerance=1e-2, interval="share"),
        "shape_bias_wilson": Metric(paired=False),
        "shape_bias_macro": Metric(interval="share"),
        "undecided": Metric(better="lower", interval="wilson"),
        "category_accuracy": Metric(better="higher", tolerance=5e-3, interval="wilson"),
        "shape_decisions": Metric(unit="images"),
        "texture_decisions": Metric(unit="images"),
        "error_consistency": Metric(unit="kappa", better="higher", least_images=100),
        "nonfinite": Metric(unit="images", better="lower"),
    }

    def describe(self) -> dict[str, Any]:
        """Return the parameters for the header: observers by name and digest alone."""
        return {
            "categories": [[name, list(indices)] for name, indices in self.categories],
            "observers": [[each.name, each.kind, each.sha256] for each in self.observers],
        }

    def measure(self, piece: Piece) -> Sums:
        """Return weighted decisions of one batch, by category, and each image's own decision.

        Raises:
            ValueError: the source has no cues.
        """
        if not isinstance(piece, OutputSeen):
            return {}
        logits, batch = present(piece.logits, "logits"), batch_of(piece)
        usable = find_usable(logits)
        silent = (logits == -torch.inf).all(-1)
        probabilities = to_float64(logits).masked_fill(~usable[:, None], 0.0).softmax(-1)
        chosen = decide(probabilities, tuple(indices for _, indices in self.categories))
        chosen = chosen.masked_fill(~usable, NO_DECISION)
        sums = {
            "images": batch.weights.sum(1),
            "independent": torch.tensor(batch.size if batch.group_keys is None else 0),
            "nonfinite": (~usable & ~silent).sum(),
            "image/decision": record(batch, chosen),
            **self._tally(batch, chosen, ""),
        }
        for number, observer in enumerate(self.observers):
            theirs, seen = look_up(observer, batch)
            sums |= self._tally(batch, theirs, f"{number}/", seen)
            sums[f"{number}/both"] = _both(batch, chosen, theirs, seen)
        return sums

    def _tally(self, batch: Batch, chosen: Tensor, prefix: str, seen: Tensor | None = None) -> Sums:
        """Return what decisions [image] add up to; only images that were `seen` count."""
        shape, texture = cues_of(batch).unbind(1)
        seen = torch.ones_like(shape, dtype=torch.bool) if seen is None else seen
        conflict = (shape != texture) & seen
        counted = {
            "shape": conflict & (chosen == shape),
            "texture": conflict & (chosen == texture),
            "conflict": conflict,
        }
        categories = len(self.categories)
        return {
            f"{prefix}correct": weigh(batch, (chosen == shape) & seen),
            f"{prefix}seen": weigh(batch, seen),
            **{
                f"{prefix}{name}": weigh(batch, by_category(values, shape, categories))
                for name, values in counted.items()
            },
        }

    def summarize(self, total: Sums) -> StudyResult:
        """Return bias, its parts by category, accuracy and consistency, with intervals.

        Raises:
            ValueError: no image was seen.
        """
        images = int(total["images"][0]) if total else 0
        if not images:
            raise ValueError("shape_bias: no image was seen")
        rows = list(self._rows(total, "", {}))
        for number, observer in enumerate(self.observers):
            rows += self._rows(total, f"{number}/", {"observer": observer.name})
        rows += self._consistency(total)
        rows.append(
            row("nonfinite", int(total["nonfinite"]), images, declared=self.metrics["nonfinite"])
        )
        return StudyResult(rows=tuple(rows), verdicts=(_verdict(rows),))

    def _rows(self, total: Sums, prefix: str, at: Mapping[str, str]) -> Iterator[Row]:
        """Yield one decider's rows."""
        shape, texture, conflict = (total[prefix + name] for name in COUNTED)
        images, decided = int(conflict[0].sum()), shape + texture
        by_name = share(shape, decided)
        numbers = {
            "shape_bias": share(shape.sum(1), decided.sum(1)),
            "shape_bias_macro": by_name.nanmean(1),
            "undecided": share(conflict.sum(1) - decided.sum(1), conflict.sum(1)),
        }
        for metric, values in numbers.items():
            yield self._row(metric, values, images, at)
        independent = int(total["independent"]) > 0
        if independent:
            yield self._wilson(shape[0].sum(), texture[0].sum(), images, at)
        seen = total[f"{prefix}seen"]
        correct = share(total[f"{prefix}correct"], seen)
        yield self._row("category_accuracy", correct, int(seen[0]), at)
        for number, (name, _) in enumerate(self.categories):
            place, count = {**at, "category": name}, int(conflict[0, number])
            if count:
                yield self._row("shape_bias", by_name[:, number], count, place)
                if independent:
                    yield self._wilson(shape[0, number], texture[0, number], count, place)
                yield self._count("shape_decisions", shape[0, number], count, place)
                yield self._count("texture_decisions", texture[0, number], count, place)
        yield self._count("shape_decisions", shape[0].sum(), images, at)
        yield self._count("texture_decisions", texture[0].sum(), images, at)

    def _row(
        self, metric: str, values: Tensor, images: int, at: Mapping[str, str], reason: str = ""
    ) -> Row:
        declared = self.metrics[metric]
        undefined = "" if torch.isfinite(values[0]) else reason or UNDECIDED
        return row(metric, values, images, declared=declared, at=at, reason=undefined)

    def _count(self, metric: str, value: Tensor, images: int, at: Mapping[str, str]) -> Row:
        told = "a count; the intervals are those of its shares"
        return row(metric, value, images, declared=self.metrics[metric], at=at, reason=told)

    def _wilson(self, shape: Tensor, texture: Tensor, images: int, at: Mapping[str, str]) -> Row:
        """Return the bias with Wilson's interval for these counts."""
        decided = float(shape + texture)
        metric = "shape_bias_wilson"
        found = row(
            metric,
            share(shape, shape + texture),
            images,
            declared=self.metrics[metric],
            at=at,
            reason="" if decided else UNDECIDED,
        )
        if not decided:
            return found
        low, high = wilson_interval(float(shape), decided)
        return replace(found, low=low, high=high, reason=f"of {decided:.0f} decisions")

    def _consistency(self, total: Sums) -> Iterator[Row]:
        """Yield the consistency with every observer, and the mean over them."""
        found = []
        for number, observer in enumerate(self.observers):
            both = total[f"{number}/both"]
            kappa = error_consistency(*both.unbind(1))
            reason = "no picture in common, or all decided alike"
            at = {"observer": observer.name}
            found.append(kappa)
            yield self._row("error_consistency", kappa, int(both[0, 0]), at, reason)
        if found:
            mean, images = torch.stack(found).nanmean(0), int(total["images"][0])
            yield self._row("error_consistency", mean, images, {}, "undefined for every observer")


def cues_of(batch: Batch) -> Tensor:
    """Return the categories of shape and texture, int64 [image, 2].

    Raises:
        ValueError: the source has none.
    """
    if batch.cues is None:
        raise ValueError("source: has no cues; give pictures called SHAPE1-TEXTURE2")
    return batch.cues


def look_up(observer: Observer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return an observer's decisions on a batch, int64 [image], and on which there are any."""
    device = batch.positions.device
    stems = [image_id.rpartition("/")[2] for image_id in batch.ids]
    said = [observer.decisions.get(stem) for stem in stems]
    chosen = torch.tensor([NO_DECISION if each is None else each for each in said], device=device)
    seen = torch.tensor([stem in observer.decisions for stem in stems], device=device)
    return chosen, seen


def _both(batch: Batch, ours: Tensor, theirs: Tensor, seen: Tensor) -> Tensor:
    """Return weighted images, right answers of either, and agreement in it, [201, 4]."""
    shape = cues_of(batch)[:, 0]
    mine, other = ours == shape, theirs == shape
    parts = (seen, mine & seen, other & seen, (mine == other) & seen)
    return weigh(batch, torch.stack(parts, dim=1))


def _verdict(rows: list[Row]) -> Verdict:
    """Return by which cue the model decides, as far as the interval tells."""
    bias = next(each for each in rows if each.metric == "shape_bias" and not each.at)
    words, reason = "undecided", bias.reason
    if bias.value is not None and bias.low is not None and bias.high is not None:
        words = "no preference shown"
        words = "decides by shape" if bias.low > 1 / 2 else words
        words = "decides by texture" if bias.high < 1 / 2 else words
        reason = f"shape_bias {bias.value:.3f} ({bias.low:.3f} to {bias.high:.3f}), limit 0.5"
    return Verdict(name="cue", at={}, verdict=words, reason=reason)


def decide(probabilities: Tensor, groups: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return the group of classes with the largest mean probability, int64 [image].

    `probabilities` is [image, class]; among equal means the first group wins.
    """
    device = probabilities.device
    columns = [torch.tensor(indices, dtype=torch.int64) for indices in groups]
    there = [each.to(device, non_blocking=True) for each in columns]
    means = [probabilities.index_select(1, each).mean(-1) for each in there]
    return torch.stack(means, dim=-1).argmax(-1)


def by_category(values: Tensor, category: Tensor, categories: int) -> Tensor:
    """Return values [image] spread over columns by category, float64 [image, category]."""
    chosen = torch.nn.functional.one_hot(category, categories)
    return chosen * values.to(torch.float64)[:, None]


def share(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, NaN where the whole is zero."""
    return torch.where(whole > 0, part / whole, torch.nan)


def error_consistency(images: Tensor, first: Tensor, second: Tensor, same: Tensor) -> Tensor:
    """Return Cohen's kappa of two observers' errors (Geirhos et al. 2020).

    kappa = (o - e) / (1 - e), where o is the share of images on which both are right or both are
    wrong, and e = p q + (1 - p)(1 - q) what accuracies p and q alone would give.

    Args:
        images: how many, [...].
        first: on how many the first decider is right, [...].
        second: on how many the second is right, [...].
        same: on how many both are right or both are wrong, [...].
    """
    p, q, observed = share(first, images), share(second, images), share(same, images)
    expected = p * q + (1 - p) * (1 - q)
    return share(observed - expected, 1 - expected)
