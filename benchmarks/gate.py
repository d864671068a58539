"""False alarms and power of `compare` and of the gate, simulated with their own code.

    python benchmarks/gate.py [--pairs 1000] [--sizes 30 100 2000] [--points 1 2 4] [--markdown]

A pair is two models over the same fresh images of ten classes, whose answers differ on about one
image in 25, as those of a quantized model and its original. False alarms: the answers of the two
are swapped image by image with a coin, so that neither is better; an alarm is a mark of `compare`
on any metric, or exit code 1 of the gate. Power: the candidate is worse by so many points of top-1,
on the most images. Each pair goes through the studies accuracy and calibration, `compare` and the
default policy of the gate. Prints JSON, or with --markdown the table of docs/gate.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from illama.observation import Batch, OutputSeen
from illama_eval.bootstrap import REPLICATE_SCHEME, keys_of, weights_of
from illama_eval.compare.comparison import Comparison, compare
from illama_eval.compare.gate import judge
from illama_eval.compare.policy import Policy
from illama_eval.compare.subject_run import SubjectRun
from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.calibration import Calibration
from illama_eval.study import accumulate

CLASSES = 10
ACCURACY = 0.75
OWN = 0.012
"""Share of the noise that is a model's own: about 4 % of the answers differ."""
SHARPNESS = 1.3
"""Logits are so much larger than those of a calibrated model."""
STUDIES = (Accuracy(), Calibration())
HEADER = {
    "identity": {"source": {"fingerprint": "drawn"}, "replicate_scheme": REPLICATE_SCHEME},
    "metrics": {
        study.name: {name: asdict(metric) for name, metric in study.metrics.items()}
        for study in STUDIES
    },
}


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Shares of pairs, of a number of images and of points that the candidate is worse."""

    images: int
    points: float
    pairs: int
    compare_any: float
    """Pairs with a mark on any metric."""
    compare_top1: float
    """Pairs whose top-1 is marked as worse."""
    gate: float
    """Pairs that the gate fails."""
    gate_top1: float
    """Pairs whose top-1 the gate calls worse."""


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[30, 100, 2000])
    parser.add_argument("--points", type=float, nargs="*", default=[1, 2, 4])
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = [(images, 0.0) for images in given.sizes]
    asked += [(max(given.sizes), points) for points in given.points]
    found = [simulate(images, points, given.pairs) for images, points in asked]
    if given.markdown:
        print("\n".join(to_markdown(found)))
    else:
        print(json.dumps([asdict(each) for each in found], indent=1))


def simulate(images: int, points: float, pairs: int, seed: int = 0) -> Rates:
    """Return how often pairs are marked or fail; with 0 points neither model is better."""
    random = np.random.default_rng([seed, images, round(100 * points)])
    alarms = [look(images, points, random) for _ in range(pairs)]
    shares = np.mean(alarms, axis=0).tolist()
    names = ("compare_any", "compare_top1", "gate", "gate_top1")
    return Rates(images=images, points=points, pairs=pairs, **dict(zip(names, shares, strict=True)))


def look(images: int, points: float, random: np.random.Generator) -> tuple[bool, ...]:
    """Return whether one pair is marked at all, in top-1, fails the gate, and does so in top-1."""
    compared = compare_pair(images, points, random)
    result = judge([compared], Policy())
    marked = {change.metric: change.finding for change in compared.changes if change.finding}
    return (
        bool(marked),
        marked.get("top1") == "worse",
        result.exit_code == 1,
        "accuracy.top1" in {each.name for each in result.regressions},
    )


def compare_pair(images: int, points: float, random: np.random.Generator) -> Comparison:
    """Return the comparison of two models over fresh images."""
    ids = [f"{number:016x}" for number in random.integers(0, 2**63, images)]
    labels = random.integers(0, CLASSES, images)
    shared = random.standard_normal((images, CLASSES))
    signals = [signal_of(ACCURACY), signal_of(ACCURACY - points / 100)]
    logits = np.stack([draw(signal, labels, shared, random) for signal in signals])
    if not points:
        swapped = random.random(images) < 1 / 2
        logits[:, swapped] = logits[::-1, swapped]
    batch = batch_of(ids, torch.from_numpy(labels))
    before, after = (
        run_of(name, torch.from_numpy(own), batch) for name, own in zip("ab", logits, strict=True)
    )
    return compare([before], [after])


def draw(
    signal: float,
    labels: NDArray[np.int64],
    shared: NDArray[np.float64],
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Return a model's logits [image, class]: the true class stands out by `signal`."""
    own = random.standard_normal(shared.shape)
    scores = np.sqrt(1 - OWN) * shared + np.sqrt(OWN) * own
    scores[np.arange(len(labels)), labels] += signal
    return SHARPNESS * signal * scores


def signal_of(accuracy: float) -> float:
    """Return the signal in standard normal noise with which so many answers are right."""
    z = np.linspace(-8, 8, 2001)

    def excess(signal: float) -> float:
        right = norm.pdf(z) * norm.cdf(z + signal) ** (CLASSES - 1)
        return float(np.trapezoid(right, z) - accuracy)

    return float(brentq(excess, 0, 10))


def batch_of(ids: Sequence[str], labels: Tensor) -> Batch:
    """Return all images as one batch."""
    keys = keys_of(ids)
    return Batch(
        ids=tuple(ids),
        labels=labels,
        positions=torch.arange(len(ids)),
        order=keys.argsort().argsort(),
        keys=keys,
        weights=weights_of(keys),
        count=len(ids),
    )


def run_of(name: str, logits: Tensor, batch: Batch) -> SubjectRun:
    """Return a model's run, as it would be read from its directory."""
    rows, records = {}, {}
    for study in STUDIES:
        total: dict[str, Tensor] = {}
        accumulate(total, study.measure(OutputSeen(logits=logits, batch=batch)))
        records |= {key: value.numpy() for key, value in total.items() if key.startswith("image/")}
        for row in study.summarize(total).rows:
            if not row.at:
                named = replace(row, subject=name, source="drawn", study=study.name)
                rows[study.name, row.metric, ()] = named
    return SubjectRun(
        path=name,
        subject=name,
        header=HEADER,
        identity={},
        rows=rows,
        ids=np.array(batch.ids),
        records={key: records[f"image/{key}"] for key in ("seen", "prediction", "rank")},
    )


def to_markdown(found: Sequence[Rates]) -> Iterator[str]:
    """Yield the lines of a table."""
    heads: Mapping[str, str] = {
        "images": "images",
        "points": "points worse",
        "pairs": "pairs",
        "compare_any": "`compare`: any mark",
        "compare_top1": "`compare`: top-1 worse",
        "gate": "gate: exit 1",
        "gate_top1": "gate: top-1 worse",
    }
    yield f"| {' | '.join(heads.values())} |"
    yield "|" + " ---: |" * len(heads)
    for each in found:
        shares = (each.compare_any, each.compare_top1, each.gate, each.gate_top1)
        cells = [f"{each.images:,}", f"{each.points:g}", f"{each.pairs:,}"]
        yield f"| {' | '.join([*cells, *(f'{100 * share:.1f} %' for share in shares)])} |"


if __name__ == "__main__":
    main()
