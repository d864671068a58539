"""Probes: a linear classifier or neighbours on frozen features, and the rows of their accuracy.

Hyperparameters are chosen on training images; each classifier sees the test images once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray
from torch import Tensor

from illama.sources.source import Source, hash_order, keep_groups
from illama_eval.bootstrap import weights_for
from illama_eval.functional.neighbours import TEMPERATURE, find_neighbours, vote
from illama_eval.results import Curve, Row
from illama_eval.statistics import mean_interval
from illama_eval.study import Metric, StudyResult, row
from illama_eval.subjects.subject import SubjectError
from illama_eval.transfer.features import Features, Kind
from illama_eval.transfer.linear import HELD_OUT, LinearProbe, fit_probe

Probe: TypeAlias = Literal["linear", "knn"]

Shots: TypeAlias = "int | Literal['all']"
"""Training images per class."""

STUDY = "transfer"
METRICS: Mapping[str, Metric] = {
    "top1": Metric(better="higher", tolerance=1e-2, interval="wilson"),
    "top1_over_draws": Metric(better="higher", paired=False),
    "held_out_top1": Metric(better="higher", tolerance=1e-2, interval="wilson"),
    "chosen_c": Metric(unit="factor"),
    "neighbours": Metric(unit="images"),
    "training_images": Metric(unit="images"),
    "best_epoch": Metric(unit="epoch"),
}
"""Of the study `transfer`."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Which classifier, on which features, of how many images."""

    probe: Probe
    kind: Kind = "class"
    grid: tuple[float, ...] = ()
    """Values of C of a linear probe."""
    neighbours: tuple[int, ...] = ()
    """Values of k; the first is the classifier's."""
    shots: tuple[Shots, ...] = ()
    """Training images per class of a few-shot curve."""
    draws: int = 5
    """Draws of the images of each number of shots; `all` has one."""
    seed: int = 0

    def parameters(self) -> dict[str, Any]:
        """Return what decides the result, as JSON reads it back."""
        own: dict[str, Any] = (
            {"grid": list(self.grid), "held_out": HELD_OUT}
            if self.probe == "linear"
            else {"neighbours": list(self.neighbours), "temperature": TEMPERATURE}
        )
        drawn = {"shots": list(self.shots), "draws": self.draws} if self.shots else {}
        return {"probe": self.probe, "features": self.kind, "seed": self.seed, **own, **drawn}


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """The readable images of a source, with their features."""

    features: Tensor
    """float32 [image, channel]"""
    labels: Tensor
    """int64 [image]"""
    ids: tuple[str, ...]
    positions: NDArray[np.int64]
    """Of each image in the source."""
    groups: Mapping[str, tuple[str, ...]] | None = None
    """Way of grouping -> each image's group, as in the source."""

    def part(self, positions: NDArray[np.int64]) -> FeatureSet:
        """Return some of the images."""
        index = torch.from_numpy(positions).to(self.labels.device)
        return FeatureSet(
            features=self.features[index],
            labels=self.labels[index],
            ids=tuple(self.ids[i] for i in positions),
            positions=self.positions[positions],
            groups=self.groups and keep_groups(self.groups, positions),
        )


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Training and test features of one model, to be probed."""

    name: str
    """Of the model."""
    train: FeatureSet
    test: FeatureSet
    classes: int
    own: Tensor | None = None
    """Position of each test image among the training images, if both are the same set."""
    unreadable: int = 0
    """Training images that could not be read, and are left out."""

    def check(self, config: ProbeConfig) -> None:
        """Refuse features and classes that no classifier can be fitted to.

        Raises:
            SubjectError: features are not finite, a class has no image, or too few images.
        """
        bad = int((~self.train.features.isfinite().all(1)).sum())
        if bad:
            raise SubjectError(
                f"{self.name}: features of {bad} training images are not finite; check the "
                "checkpoint, or use --dtype fp32"
            )
        check_amounts(self.train.labels, self.classes, config, left_out=self.own is not None)


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Logits and rows of one model's probe."""

    logits: Tensor
    """float64 [test image, class]"""
    result: StudyResult


def probe(task: ProbeTask, config: ProbeConfig) -> ProbeResult:
    """Fit the classifier and apply it to the test images, for all images and for few.

    Raises:
        SubjectError: features, classes or the number of images do not allow it.
    """
    task.check(config)
    weights = weights_for(task.test.ids, task.test.groups)
    if config.probe == "linear":
        logits, rows, curves = _probe_linearly(task, config)
    else:
        logits, rows, curves = _probe_neighbours(task, config, weights)
    rows = [count_training_images(len(task.train.ids), task.unreadable), *rows]
    few = list(_few_shot_rows(task, config, logits, weights))
    return ProbeResult(
        logits=logits,
        result=StudyResult(rows=(*rows, *few), curves=(*curves, *_few_curve(task, few))),
    )


def count_training_images(images: int, unreadable: int) -> Row:
    """Return the row of how many images a classifier was trained on, without unreadable ones."""
    reason = f"{unreadable} unreadable ones left out" if unreadable else "a count"
    declared = METRICS["training_images"]
    return row("training_images", float(images), images, declared=declared, reason=reason)


def _probe_linearly(task: ProbeTask, config: ProbeConfig) -> tuple[Tensor, list[Row], list[Curve]]:
    """Return the logits of a linear probe, the rows of the choice of C, and their curve."""
    train = task.train
    found = fit_probe(
        train.features, train.labels, train.ids, task.classes, config.grid, config.seed
    )
    rows = list(_grid_rows(found, train))
    curves = _curves("C", [(each.inverse_penalty, each.top1) for each in found.candidates])
    return found.fit.logits(task.test.features).cpu(), rows, curves


def _grid_rows(found: LinearProbe, train: FeatureSet) -> Iterator[Row]:
    """Yield the chosen C, and the held-out accuracy of every C and of the chosen one."""
    known = {one: position for position, one in enumerate(train.ids)}
    held_out = train.part(np.array([known[one] for one in found.held_out], dtype=np.int64))
    declared = METRICS["held_out_top1"]
    if train.groups is not None:
        declared = replace(declared, interval="share")
    chosen, images = found.fit.inverse_penalty, len(found.held_out)
    reason = f"chosen on {images} held-out training images" if images else "nothing held out"
    if not found.fit.converged:
        reason += "; the fit stopped before it had converged"
    yield row("chosen_c", chosen, images, declared=METRICS["chosen_c"], reason=reason)
    weights = weights_for(held_out.ids, held_out.groups)
    for each in found.candidates:
        top1 = weights @ each.hits.double() / weights.sum(1)
        note = "" if each.fit.converged else "the fit stopped before it had converged"
        made = row("held_out_top1", top1, images, declared=declared, reason=note)
        if each.inverse_penalty == chosen:
            yield made
        yield structs.replace(made, at={"C": f"{each.inverse_penalty:.6g}"})


def _probe_neighbours(
    task: ProbeTask, config: ProbeConfig, weights: Tensor
) -> tuple[Tensor, list[Row], list[Curve]]:
    """Return the logits of the first k, the rows of every k, and their curve."""
    near = find_neighbours(
        task.test.features, task.train.features, max(config.neighbours), task.own
    )
    logits = {k: vote(near, task.train.labels, task.classes, k).cpu() for k in config.neighbours}
    first = config.neighbours[0]
    reason = "the image itself left out" if task.own is not None else "given beforehand"
    rows = [
        row(
            "neighbours",
            float(first),
            len(task.train.ids),
            declared=METRICS["neighbours"],
            reason=reason,
        )
    ]
    rows += [_accuracy_row(task, logits[k], weights, {"k": k}) for k in sorted(config.neighbours)]
    curves = _curves("k", [(float(each.at["k"]), each.value) for each in rows[1:]])
    return logits[first], rows, curves


def _few_shot_rows(
    task: ProbeTask, config: ProbeConfig, everything: Tensor, weights: Tensor
) -> Iterator[Row]:
    """Yield the accuracy with few images per class: of each draw, and the mean."""
    for shots in config.shots:
        if shots == "all":
            yield _accuracy_row(task, everything, weights, {"shots": "all"})
            continue
        made = []
        for draw in range(1, config.draws + 1):
            positions = draw_shots(task.train, shots, config.seed + draw - 1)
            few = replace(task, train=task.train.part(positions), own=_own_among(task, positions))
            logits = _classify(few, config)
            made.append(_hits(task, logits))
            if config.draws > 1:
                yield _accuracy_row(task, logits, weights, {"shots": shots, "draw": draw})
        yield from _mean_rows(torch.stack(made), shots, weights)


def _mean_rows(hits: Tensor, shots: int, weights: Tensor) -> Iterator[Row]:
    """Yield the mean accuracy of hits [draw, image] with the interval over images and over draws.

    The first takes the draws as they are, the second the test images.
    """
    draws, images = hits.shape
    at: dict[str, int | str] = {"shots": shots}
    over_images = replace(METRICS["top1"], interval="share" if draws > 1 else "wilson")
    top1 = weights @ hits.mean(0) / weights.sum(1)
    reason = f"mean of {draws} draws, interval over the test images" if draws > 1 else ""
    yield row("top1", top1, images, declared=over_images, at=at, reason=reason)
    if draws > 1:
        means = hits.mean(1).tolist()
        yield row(
            "top1_over_draws",
            float(top1[0]),
            images,
            declared=METRICS["top1_over_draws"],
            at=at,
            reason=f"Student's interval over {draws} draws of the training images, from "
            f"{min(means):.4f} to {max(means):.4f}",
            interval=mean_interval(means),
        )


def _few_curve(task: ProbeTask, rows: Sequence[Row]) -> list[Curve]:
    """Return accuracy over images per class."""
    every = len(task.train.ids) / task.classes
    means = [each for each in rows if set(each.at) == {"shots"}]
    return _curves(
        "shots",
        [
            (every if each.at["shots"] == "all" else float(each.at["shots"]), each.value)
            for each in means
        ],
    )


def _curves(over: str, points: Sequence[tuple[float, float | None]]) -> list[Curve]:
    """Return accuracy over something as a curve, or none without a point."""
    known = sorted((x, y) for x, y in points if y is not None)
    if not known:
        return []
    x, y = zip(*known, strict=True)
    return [Curve(name="held_out_top1" if over == "C" else "top1", at={"over": over}, x=x, y=y)]


def draw_shots(train: FeatureSet, shots: int, seed: int) -> NDArray[np.int64]:
    """Return the positions of `shots` images of each class, those of smallest hash.

    With the same seed, more shots include the fewer ones.
    """
    order, labels = hash_order(train.ids, seed), train.labels.cpu().numpy()
    chosen = [
        mine[np.argsort(order[mine])[:shots]]
        for mine in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    return np.sort(np.concatenate(chosen))


def _own_among(task: ProbeTask, positions: NDArray[np.int64]) -> Tensor | None:
    """Return the position of each test image among the drawn ones, -1 if it is not one."""
    if task.own is None:
        return None
    chosen = torch.from_numpy(positions).to(task.own.device)
    among = task.own.new_full((len(task.train.ids),), -1)
    among[chosen] = torch.arange(len(positions), device=task.own.device)
    return torch.where(task.own < 0, task.own, among[task.own])


def _classify(task: ProbeTask, config: ProbeConfig) -> Tensor:
    """Return logits of the test images by a classifier of these training images."""
    train = task.train
    if config.probe == "linear":
        found = fit_probe(
            train.features, train.labels, train.ids, task.classes, config.grid, config.seed
        )
        return found.fit.logits(task.test.features).cpu()
    k = min(config.neighbours[0], len(train.ids) - (task.own is not None))
    near = find_neighbours(task.test.features, train.features, k, task.own)
    return vote(near, train.labels, task.classes, k).cpu()


def _hits(task: ProbeTask, logits: Tensor) -> Tensor:
    """Return 1 for each test image that is right, else 0; non-finite logits are wrong."""
    right = (logits.argmax(1) == task.test.labels.cpu()) & logits.isfinite().all(1)
    return right.double()


def _accuracy_row(
    task: ProbeTask, logits: Tensor, weights: Tensor, at: Mapping[str, int | str]
) -> Row:
    top1 = weights @ _hits(task, logits) / weights.sum(1)
    return row("top1", top1, len(logits), declared=METRICS["top1"], at=at)


def make_set(source: Source, features: Features, device: torch.device) -> FeatureSet:
    """Return a source's readable images with their features, on the device."""
    assert source.labels is not None
    missing = {position for position, _ in features.unreadable}
    positions = np.array([i for i in range(len(source)) if i not in missing], dtype=np.int64)
    return FeatureSet(
        features=torch.from_numpy(np.array(features.values[positions])).to(device),
        labels=torch.from_numpy(source.labels[positions]).to(device),
        ids=tuple(source.ids[i] for i in positions),
        positions=positions,
        groups=source.groups and keep_groups(source.groups, positions),
    )


def fit_neighbours(config: ProbeConfig, images: int) -> tuple[ProbeConfig, str]:
    """Return the config with the values of k that so many training images allow, and a note.

    Where none of them does, k is the number of images.
    """
    kept = tuple(k for k in config.neighbours if k <= images) or (images,)
    dropped = [k for k in config.neighbours if k not in kept]
    if not dropped or images < 1:
        return config, ""
    return replace(config, neighbours=kept), (
        f"k = {', '.join(map(str, dropped))} left out: each image has {images} training images to"
        f" choose from; the classifier's k is {kept[0]}"
    )


def check_amounts(labels: Tensor, classes: int, config: ProbeConfig, *, left_out: bool) -> None:
    """Refuse training images that are too few for the config.

    Raises:
        SubjectError: there is one class, or one has no image, or there are more shots or
            neighbours than images.
    """
    counts = torch.bincount(labels, minlength=classes)
    least, rarest = int(counts.min()), int(counts.argmin())
    if classes < 2:  # noqa: PLR2004 - one class needs no classifier
        raise SubjectError("there is one class; a probe needs two or more")
    if not least:
        raise SubjectError(f"class {rarest} has no training image; name others with --train-data")
    most = max([0, *(each for each in config.shots if each != "all")])
    if most > least:
        raise SubjectError(f"--shots {most}: class {rarest} has {least} training images")
    left = len(labels) - left_out
    if config.neighbours and max(config.neighbours) > left:
        raise SubjectError(
            f"--neighbours {max(config.neighbours)}: each image has {left} training images to "
            "choose from"
        )
