"""Linear probe and nearest neighbours against scikit-learn's, side by side, as ratios.

    python benchmarks/transfer.py [--images 50000] [--queries 10000] [--channels 192] [--rounds 1]

Features are drawn: ten classes with correlated channels of unequal spread. The linear probe goes
through nine values of C, ours with warm starts; scikit-learn's LogisticRegression (default
tolerance) is called for each. At each C the two objectives are computed by the same formula in
float64. Neighbours: the 200 nearest by cosine, against scikit-learn's brute force. Each side's
memory is the growth of the process's peak (Linux), measured in a process of its own. Prints JSON;
exits 1 if an objective or a ratio misses its target.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from illama_eval.functional.neighbours import find_neighbours
from illama_eval.transfer.logistic_regression import fit_path

CLASSES = 10
GRID = tuple(10.0**power for power in range(-4, 5))
MOST = 200
AT_MOST = 1 + 1e-6
"""Our objective over scikit-learn's, at each C."""
TARGETS = {"linear": 2.0, "neighbours": 1.0}
"""Seconds of scikit-learn over ours."""

Array = NDArray[np.float32]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--channels", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    features, labels = make_features(given.images, given.channels, 0)
    queries, _ = make_features(given.queries, given.channels, 1)
    report = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "images": given.images,
        "queries": given.queries,
        "channels": given.channels,
        "linear": compare_linear(features, labels, given.rounds),
        "neighbours": compare_neighbours(features, queries, given.rounds),
        "targets": {"objective": AT_MOST, **TARGETS},
    }
    print(json.dumps(report, indent=1))
    worst = max(report["linear"]["objective over scikit-learn's"].values())
    fast = all(report[name]["ratio"] >= target for name, target in TARGETS.items())
    return 0 if worst <= AT_MOST and fast else 1


def make_features(images: int, channels: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Return features [image, channel] and classes [image]; centres do not depend on the seed."""
    fixed, random = np.random.default_rng(100), np.random.default_rng(seed)
    centres = 0.25 * fixed.normal(size=(CLASSES, channels))
    scales = np.exp(0.7 * fixed.normal(size=channels))
    mixing = fixed.normal(size=(channels, channels)) / np.sqrt(channels)
    labels = random.integers(0, CLASSES, images)
    plain = (centres[labels] + random.normal(size=(images, channels))) * scales
    return (plain @ mixing).astype(np.float32), labels


def compare_linear(features: Array, labels: NDArray[np.int64], rounds: int) -> dict[str, Any]:
    """Return seconds, ratio and objectives of both."""
    ours, theirs = [], []
    for _ in range(rounds):
        seconds, fits = timed(
            lambda: fit_path(torch.from_numpy(features), torch.from_numpy(labels), CLASSES, GRID)
        )
        ours.append(seconds)
        seconds, models = timed(lambda: [fit_reference(features, labels, c) for c in GRID])
        theirs.append(seconds)
    objectives = {
        f"{c:g}": objective(fit.weight.numpy(), fit.intercept.numpy(), features, labels, c)
        / objective(model.coef_.T, model.intercept_, features, labels, c)
        for c, fit, model in zip(GRID, fits, models, strict=True)
    }
    return {
        "seconds": {
            "ours": round(statistics.median(ours), 2),
            "scikit-learn": round(statistics.median(theirs), 2),
        },
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "steps": {
            "ours": sum(fit.steps for fit in fits),
            "scikit-learn": sum(int(model.n_iter_[0]) for model in models),
        },
        "objective over scikit-learn's": objectives,
    }


def fit_reference(features: Array, labels: NDArray[np.int64], c: float) -> LogisticRegression:
    """Return scikit-learn's classifier."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(C=c, max_iter=1000).fit(features, labels)


def objective(
    weight: NDArray[np.float64],
    intercept: NDArray[np.float64],
    features: Array,
    labels: NDArray[np.int64],
    c: float,
) -> float:
    """Return mean log loss and penalty, in float64."""
    logits = features.astype(np.float64) @ weight + intercept
    largest = logits.max(1)
    sums = np.log(np.exp(logits - largest[:, None]).sum(1)) + largest
    loss = (sums - logits[np.arange(len(labels)), labels]).mean()
    return float(loss + (weight**2).sum() / (2 * c * len(labels)))


def compare_neighbours(features: Array, queries: Array, rounds: int) -> dict[str, Any]:
    """Return seconds, ratio, memory and agreement of both, each run in a process of its own."""
    sides = {"ours": nearest, "scikit-learn": nearest_reference}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    memory: dict[str, float] = {}
    found: dict[str, NDArray[np.int64]] = {}
    for _ in range(rounds):
        for name, work in sides.items():
            seconds, memory[name], found[name] = alone(work, features, queries)
            taken[name].append(seconds)
    medians = {name: statistics.median(each) for name, each in taken.items()}
    return {
        "seconds": {name: round(seconds, 2) for name, seconds in medians.items()},
        "ratio": round(medians["scikit-learn"] / medians["ours"], 2),
        "peak MB above the start": {name: round(value) for name, value in memory.items()},
        "same nearest": float((found["ours"][:, 0] == found["scikit-learn"][:, 0]).mean()),
        "same neighbours": shared(found["ours"], found["scikit-learn"]),
    }


def alone(
    work: Callable[[Array, Array], NDArray[np.int64]], features: Array, queries: Array
) -> tuple[float, float, NDArray[np.int64]]:
    """Return seconds, MB of peak growth and result of work in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measured, (work, features, queries))


def measured(
    work: Callable[[Array, Array], NDArray[np.int64]], features: Array, queries: Array
) -> tuple[float, float, NDArray[np.int64]]:
    """Return seconds, MB of peak growth and result, after a small first call."""
    work(features[:1000], queries[:10])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    seconds, result = timed(lambda: work(features, queries))
    return seconds, status("VmHWM") - before, result


def status(name: str) -> float:
    """Return a line of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def nearest(features: Array, queries: Array) -> NDArray[np.int64]:
    """Return our neighbours."""
    found = find_neighbours(torch.from_numpy(queries), torch.from_numpy(features), MOST)
    return found.index.numpy()


def nearest_reference(features: Array, queries: Array) -> NDArray[np.int64]:
    """Return scikit-learn's: brute force on normalised features, its fastest way to cosines."""
    known, wanted = (
        each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, queries)
    )
    model = NearestNeighbors(n_neighbors=MOST, algorithm="brute").fit(known)
    return np.asarray(model.kneighbors(wanted, return_distance=False))


def shared(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Return the mean share of neighbours that both found."""
    pairs = zip(first, second, strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in pairs]))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    sys.exit(main())
