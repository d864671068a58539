"""A study is two pure functions joined by addition: `measure` one piece, `summarize` the total."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.observation import Batch, Piece
from illama_eval.results import TOO_FEW, Curve, Row, Verdict
from illama_eval.statistics import student_interval, wilson_interval
from illama_eval.units import unit_of

Sums: TypeAlias = dict[str, Tensor]
"""Named tensors that add: key by key, a missing key counts as zero. Keys that begin with `image/`
are dense records, [images of the source], and are written to per_image.npz."""


@dataclass(frozen=True)
class Pending:
    """A sum that is still being computed beside the model."""

    parts: tuple[Future[Tensor], ...]
    finish: Callable[[Tensor], Tensor]
    """Makes the sum of the joined parts."""

    def result(self) -> Tensor:
        """Wait for the parts, and return the sum."""
        return self.finish(torch.cat([part.result() for part in self.parts]))


Measured: TypeAlias = Mapping[str, Tensor | Pending]
"""What `measure` returns: sums, some of which may be pending."""

Interval: TypeAlias = Literal["student", "share", "decibels", "wilson", "basic", "jackknife"]
"""How the interval of a metric is made. `student`: from the deviation and skewness of its
replicates. `share`: the same, of what is averaged over images and lies between 0 and 1; where all
images are at the same end, Wilson's. `decibels`: `student`'s of the noise's share of the signal, a
mean of few large and many small terms, in dB. `wilson`: of the share of images with a property.
`basic`: of what resampling biases; its study gives the interval of one run, and a comparison joins
those of both. `jackknife`: of a value that is no mean over images, over groups of images; its study
gives it."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number means: its unit, which way is better, and how its interval is made."""

    unit: str = "fraction"
    better: Literal["higher", "lower"] | None = None
    tolerance: float = 0.0
    """Change that a gate lets pass."""
    interval: Interval = "student"
    paired: bool = True
    """Whether its interval comes with replicates, by which two runs are paired."""
    least_images: int = 2
    """Images below which the interval is known not to cover, so that none is given."""

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value that there can be, by the unit."""
        unit = unit_of(self.unit)
        return unit.lowest, unit.highest


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a study says in the end."""

    rows: tuple[Row, ...]
    curves: tuple[Curve, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


class Study(Protocol):
    """What every study offers; implementations are frozen dataclasses of their parameters."""

    name: ClassVar[str]
    """The study's name: file, Row.study."""
    wants: ClassVar[frozenset[str]]
    """What it asks of a model (names of illama.observation.WANTED)."""
    requires: ClassVar[frozenset[str]]
    """What it must be told of the images: names of Source's fields that may be None."""
    metrics: ClassVar[Mapping[str, Metric]]

    def measure(self, piece: Piece) -> Measured:
        """Return what one piece of one batch shows."""
        ...

    def summarize(self, total: Sums) -> StudyResult:
        """Return the findings from the grand total.

        Raises:
            ValueError: no image was seen.
        """
        ...


def needs(study: Study) -> frozenset[str]:
    """Return what a study cannot do without: what it wants, less what it calls `optional`."""
    optional: frozenset[str] = getattr(study, "optional", frozenset())
    return study.wants - optional


def counts_unreadable(study: Study) -> frozenset[str]:
    """Return the metrics that would have a value if unreadable images counted as wrong."""
    named: frozenset[str] = getattr(study, "counts_unreadable", frozenset())
    return named


def tests_images(study: Study) -> frozenset[str]:
    """Return the verdicts that come of a test, which takes the images for independent."""
    named: frozenset[str] = getattr(study, "tests_images", frozenset())
    return named


def add(left: Mapping[str, Tensor], right: Measured) -> Sums:
    """Return the sum of two sums; the operands stay as they are."""
    total = {key: _dense(value).clone() for key, value in left.items()}
    accumulate(total, right)
    return total


def accumulate(total: Sums, more: Measured) -> None:
    """Add to a running total in place."""
    for key, found in more.items():
        value = found.result() if isinstance(found, Pending) else found
        if key in total:
            total[key] += value
        else:
            total[key] = _dense(value).clone()


def layers_of(keys: Iterable[str], name: str) -> list[int]:
    """Return the layers of which there is a sum of this name, in order; keys are `name/layer`."""
    return sorted(int(key.split("/")[1]) for key in keys if key.startswith(f"{name}/"))


def record(batch: Batch, values: Tensor) -> Tensor:
    """Return values [image, ...] filled into the source's length at the images' own positions.

    The result is sparse, [count, ...]; it becomes dense when it is added to a total.
    """
    index = batch.positions.to(values.device).unsqueeze(0)
    shape = (batch.count, *values.shape[1:])
    return torch.sparse_coo_tensor(index, values, shape, check_invariants=False)


def weigh(batch: Batch, values: Tensor) -> Tensor:
    """Return replicate-weighted sums of values [image, ...] over the batch, float64 [201, ...]."""
    flat = values.to(torch.float64).flatten(1) if values.ndim > 1 else values.double()[:, None]
    return (batch.weights @ flat).reshape(len(batch.weights), *values.shape[1:])


def row(
    metric: str,
    values: Tensor | float,
    images: int,
    *,
    declared: Metric,
    at: Mapping[str, int | str] | None = None,
    reason: str = "",
    interval: tuple[float, float] | None = None,
    withheld: str = "",
) -> Row:
    """Return the row of a metric.

    `values` is one number (no interval: say why in `reason`) or the estimate followed by its
    200 replicates, [201]. A value that is not finite becomes None and needs a reason. `interval`
    takes the place of the one that the replicates give; `withheld` says why it would not cover, so
    that there is none. No interval excludes its estimate.
    """
    numbers = torch.as_tensor(values, dtype=torch.float64).cpu().numpy().reshape(-1)
    estimate = float(numbers[0])
    if not math.isfinite(estimate):
        return Row(
            metric=metric,
            value=None,
            unit=declared.unit,
            images=images,
            at=dict(at or {}),
            reason=reason or "undefined on these images",
        )
    replicates, why = _usable(numbers, declared, images, withheld)
    if interval is not None and len(numbers) == 1:
        why = ""
    low, high = None, None
    if not why:
        low, high = interval or _interval(estimate, numbers[1:], declared, images)
        least, largest = declared.ends
        low, high = min(max(low, least), estimate), max(min(high, largest), estimate)
    return Row(
        metric=metric,
        value=estimate,
        low=low,
        high=high,
        unit=declared.unit,
        images=images,
        at=dict(at or {}),
        reason=reason or why,
        replicates=replicates,
    )


def _usable(
    numbers: NDArray[np.float64], declared: Metric, images: int, withheld: str
) -> tuple[NDArray[np.float64] | None, str]:
    """Return the replicates, and why they give no interval."""
    if len(numbers) == 1:
        return None, "one value for all images: no replicates"
    undefined = int((~np.isfinite(numbers[1:])).sum())
    if undefined:
        return None, f"{TOO_FEW}undefined in {undefined} of {len(numbers) - 1} replicates"
    if images < declared.least_images:
        least = declared.least_images
        return None, f"{TOO_FEW}on fewer than {least} images no interval would cover"
    return (None, f"no interval: {withheld}") if withheld else (numbers[1:], "")


def _interval(
    estimate: float, replicates: NDArray[np.float64], declared: Metric, images: int
) -> tuple[float, float]:
    """Return the declared interval."""
    still = estimate in declared.ends and not replicates.std()
    if declared.interval == "wilson" or (declared.interval == "share" and still):
        return wilson_interval(estimate * images, images)
    if declared.interval == "decibels":
        share, shares = 10 ** (-estimate / 10), 10 ** (-replicates / 10)
        low, high = student_interval(share, shares, images)
        return -10 * math.log10(high), -10 * math.log10(low if low > 0 else shares.min())
    return student_interval(estimate, replicates, images)


def _dense(value: Tensor) -> Tensor:
    return value.to_dense() if value.is_sparse else value


def parameters(study: Study) -> dict[str, Any]:
    """Return a study's parameters as JSON reads them back."""
    described = getattr(study, "describe", None)
    if described is not None:
        found: dict[str, Any] = described()
        return found
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(study).items()  # type: ignore[call-overload]  # studies are dataclasses
    }
