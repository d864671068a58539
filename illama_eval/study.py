"""A study is two pure functions joined by addition: `measure` one piece, `summarize` the total."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.observation import Batch, Piece
from illama_eval.result import Curve, Verdict
from illama_eval.row import Row
from illama_eval.statistics import REPLICATES, basic_interval, percentile_interval

Sums: TypeAlias = dict[str, Tensor]
"""Named tensors that add: key by key, a missing key counts as zero. Keys that begin with `image/`
are dense records, [images of the source], and are written to per_image.npz."""

REPLICATE_SCHEME = "poisson1-splitmix64-blake2b-v1"
"""How image ids become replicate weights; runs are paired only under the same scheme."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number means: its unit, which way is better, and how its interval is made."""

    unit: str = "fraction"
    better: Literal["higher", "lower"] | None = None
    tolerance: float = 0.0
    """Change that a gate lets pass."""
    interval: Literal["percentile", "basic"] = "percentile"
    """`basic` for binned calibration errors, which are biased upward in resamples."""


@dataclass(frozen=True, kw_only=True)
class Findings:
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

    def measure(self, piece: Piece) -> Sums:
        """Return what one piece of one batch shows."""
        ...

    def summarize(self, total: Sums) -> Findings:
        """Return the findings from the grand total.

        Raises:
            ValueError: no image was seen.
        """
        ...


def needs(study: Study) -> frozenset[str]:
    """Return what a study cannot do without: what it wants, less what it calls `optional`."""
    optional: frozenset[str] = getattr(study, "optional", frozenset())
    return study.wants - optional


def add(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Sums:
    """Return the sum of two sums; the operands stay as they are."""
    total = {key: _dense(value).clone() for key, value in left.items()}
    accumulate(total, right)
    return total


def accumulate(total: Sums, more: Mapping[str, Tensor]) -> None:
    """Add to a running total in place."""
    for key, value in more.items():
        if key in total:
            total[key] += value
        else:
            total[key] = _dense(value).clone()


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


def key_of(image_id: str) -> int:
    """Return the image's 64-bit hash as a signed integer."""
    digest = hashlib.blake2b(image_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def keys_of(ids: Iterable[str]) -> Tensor:
    """Return the images' 64-bit hashes, int64 [image]."""
    return torch.tensor([key_of(image_id) for image_id in ids], dtype=torch.int64)


def weights_of(keys: Tensor) -> Tensor:
    """Return Poisson(1) weights, float64 [1 + 200, image]; row 0 is all ones.

    A weight depends on the image's hash and the replicate's number alone, so every split of the
    images, and every run over them, sees the same ones.
    """
    seeds = keys.cpu().numpy().view(np.uint64)
    steps = np.arange(1, REPLICATES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = _splitmix64(_splitmix64(seeds)[None, :] + steps[:, None])
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    poisson = np.searchsorted(_POISSON_CDF, uniform, side="right").astype(np.float64)
    return torch.from_numpy(np.concatenate((np.ones((1, len(seeds))), poisson)))


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64-bit counters into independent 64-bit words (Steele et al. 2014)."""
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


_POISSON_CDF = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(18)])


def row(
    metric: str,
    values: Tensor | float,
    images: int,
    *,
    declared: Metric,
    at: Mapping[str, int | str] | None = None,
    reason: str = "",
) -> Row:
    """Return the row of a metric.

    `values` is one number (no interval: say why in `reason`) or the estimate followed by its
    200 replicates, [201]. A value that is not finite becomes None and needs a reason.
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
    low, high, replicates, why = _bounds(numbers, declared)
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


def _bounds(
    numbers: NDArray[np.float64], declared: Metric
) -> tuple[float | None, float | None, NDArray[np.float64] | None, str]:
    """Return low, high, the replicates, and why there is no interval."""
    if len(numbers) == 1:
        return None, None, None, "one value for all images: no replicates"
    replicates = numbers[1:]
    undefined = int((~np.isfinite(replicates)).sum())
    if undefined:
        return None, None, None, f"undefined in {undefined} of {len(replicates)} replicates"
    if declared.interval == "basic":
        return *basic_interval(float(numbers[0]), replicates), replicates, ""
    return *percentile_interval(replicates), replicates, ""


def _dense(value: Tensor) -> Tensor:
    return value.to_dense() if value.is_sparse else value
