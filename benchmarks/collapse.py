"""The collapse study on one layer: one pass against plain float64 formulas, as ratios.

    python benchmarks/collapse.py [--tokens 577] [--heads 3] [--images 4] [--rounds 5] [--compile]

The maps are those of the released mask. Both variants get the same piece, interleaved, with one
thread; the ratio is that of processor times. The bytes are those that tensors in memory would move
if nothing stayed in a cache: what every operation of the plain formulas reads and writes, and what
the two passes over strips read. With --compile the sums that need every number of a map are also
taken by kernels of torch.compile, and compared with the passes over strips. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from illama.observation import Batch, LayerSeen
from illama_eval.bootstrap import keys_of, weights_of
from illama_eval.functional.map_pass import TINY, column_moments, sum_maps
from illama_eval.studies.collapse import Collapse

PASSES = 36
"""Reads and writes of a float64 number by the plain formulas, per number of the map: counted in
`_plain_map`, a mask that multiplies or is subtracted included."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=577)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    piece = make_piece(arguments.images, arguments.heads, arguments.tokens)
    works = {"plain": lambda: plain(piece), "ours": lambda: Collapse().measure(piece)}
    median = median_times(works, arguments.rounds)
    found, expected = Collapse().measure(piece), plain(piece)
    numbers = arguments.heads * arguments.tokens**2
    half = (arguments.tokens + 1) / (2 * arguments.tokens)
    report = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "maps": [arguments.images, arguments.heads, arguments.tokens, arguments.tokens],
        "ratio": round(median["plain"] / median["ours"], 2),
        "milliseconds an image": round(1e3 * median["ours"] / arguments.images, 1),
        "megabytes an image": {
            "plain": round(8 * PASSES * numbers / 1e6, 1),
            "ours": round(3 * 4 * half * numbers / 1e6, 1),
        },
        "largest relative difference": max(
            float((found[f"{name}/2"][0, :, 0].sum() / value.sum() - 1).abs())
            for name, value in expected.items()
        ),
    }
    if arguments.compile:
        report["compiled, over strips"] = compare_compiled(piece, arguments.rounds)
    print(json.dumps(report, indent=1))


def median_times(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median processor time of each, in turns, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def compare_compiled(piece: LayerSeen, rounds: int) -> dict[str, float]:
    """Return the time of compiled kernels over that of the passes over strips, and of compiling."""
    assert piece.used is not None
    assert piece.previous is not None
    used, previous, open_ = piece.used, piece.previous, piece.open
    last = [maps[:, :, -1].double() for maps in (used, previous)]
    start = time.process_time()
    sums, moments = torch.compile(_whole_sums), torch.compile(_whole_moments)
    variants: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "sums of maps": (lambda: sums(used), lambda: sum_maps(used, causal=True)),
        "moments of columns": (
            lambda: moments(used, previous, *last, open_),
            lambda: column_moments(used, previous, open_, None, causal=True),
        ),
    }
    for kernel, _ in variants.values():
        kernel()
    found = {"seconds of compiling": round(time.process_time() - start, 1)}
    for name, (kernel, passes) in variants.items():
        median = median_times({"kernel": kernel, "passes": passes}, rounds)
        found[name] = round(median["kernel"] / median["passes"], 2)
    return found


def _whole_sums(used: Tensor) -> tuple[Tensor, ...]:
    """Return masses, logarithms and columns of whole maps, written for a compiler to fuse."""
    exact = used.double()
    return exact.sum(-1), ((exact + TINY).log() * exact).sum(-1), exact.sum(-2)


def _whole_moments(
    used: Tensor, previous: Tensor, last: Tensor, last_before: Tensor, open_: Tensor
) -> tuple[Tensor, ...]:
    """Return the moments of columns of whole maps, written for a compiler to fuse."""
    counted = open_.double()
    left = used.double() - last[:, :, None] * counted
    right = previous.double() - last_before[:, :, None] * counted
    products = left, right, left * right, left * left, right * right
    return tuple(each.sum(-2) for each in products)


def make_piece(images: int, heads: int, tokens: int) -> LayerSeen:
    """Return a layer of the released mask with the one before it."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.ones(tokens, tokens).tril()
    used, previous = (
        torch.randn(images, heads, tokens, tokens, generator=generator).softmax(-1) * factor
        for _ in range(2)
    )
    ids = tuple(map(str, range(images)))
    numbers, keys = torch.arange(images), keys_of(ids)
    batch = Batch(
        ids=ids,
        labels=None,
        positions=numbers,
        order=numbers,
        keys=keys,
        weights=weights_of(keys),
        count=images,
    )
    return LayerSeen(
        index=2,
        open=factor.bool(),
        class_index=tokens - 1,
        image_tokens=slice(0, tokens - 1),
        factor=factor,
        form="lower",
        used=used,
        previous=previous,
        tokens=torch.randn(images, tokens, 64 * heads, generator=generator),
        batch=batch,
    )


def plain(piece: LayerSeen) -> dict[str, Tensor]:
    """Return sums by head with every formula on its own, map by map in float64."""
    assert piece.used is not None
    assert piece.previous is not None
    rows = [
        _plain_map(*maps, piece.open)
        for maps in zip(piece.used.flatten(0, 1), piece.previous.flatten(0, 1), strict=True)
    ]
    names = ("row_mass", "entropy", "similarity", "raw_similarity")
    return {name: torch.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def _plain_map(used: Tensor, previous: Tensor, open_: Tensor) -> tuple[Tensor, ...]:
    """Return sums over one map: masses, entropies, centred and raw cosines of its columns."""
    left, right = used.double(), previous.double()
    whole = (left + right).sum(-1)
    mass, counted, rows = left.sum(-1), open_.double(), open_.sum(0)
    entropy = torch.special.entr(left).sum(-1) / mass + mass.log()
    received = left.sum(-2) / rows
    received.max()
    left, right = left * counted, right * counted
    means = [maps.sum(-2) / rows for maps in (left, right)]
    left, right = (
        torch.addcmul(maps, mean[None], counted, value=-1)
        for maps, mean in zip((left, right), means, strict=True)
    )
    product = (left * right).sum(-2)
    squares = [maps.square().sum(-2) for maps in (left, right)]
    wholes = [square + rows * mean.square() for square, mean in zip(squares, means, strict=True)]
    centred = product / (squares[0] * squares[1]).sqrt()
    raw = (product + rows * means[0] * means[1]) / (wholes[0] * wholes[1]).sqrt()
    assert bool(whole.isfinite().all())
    centred = centred.where(rows >= Collapse.least_rows, math.nan)
    entropy = entropy.where(open_.sum(-1) > 1, math.nan)
    return mass.sum(), entropy.nansum(), centred.nansum(), raw.nansum()


if __name__ == "__main__":
    main()
