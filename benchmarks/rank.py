"""Spectra of single images' attention maps: ours against a loop of numpy SVDs, as ratios.

    python benchmarks/rank.py [--images 4] [--tokens 197] [--rounds 7]

The maps are softmax of random scores times the causal mask, 36 per image as in iLLaMA-T. Every
variant turns the same float64 maps into indices, interleaved, so that a busy machine slows all of
them alike; the ratio is that of the medians. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from illama_eval.functional.spectrum import first_index, index_of_share, over_cores

THRESHOLD = 0.8
MAPS_PER_IMAGE = 36
TARGET = 1.3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=197)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    maps = make_maps(arguments.images * MAPS_PER_IMAGE, arguments.tokens)
    variants: dict[str, Callable[[Tensor], Tensor]] = {
        "numpy svd": index_by_numpy,
        "ours": lambda maps: index_of_share(maps, THRESHOLD),
        "float32": index_in_float32,
    }
    exact = index_by_numpy(maps)
    taken = interleave(variants, maps, arguments.rounds)
    report = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "maps": list(maps.shape),
        "target": TARGET,
        "variants": {
            name: {
                "ratio": round(taken["numpy svd"] / taken[name], 3),
                "milliseconds_per_map": round(1e3 * taken[name] / len(maps), 3),
                "same_index": float((index(maps) == exact).double().mean()),
                "largest_difference": float((index(maps) - exact).abs().max()),
            }
            for name, index in variants.items()
        },
    }
    print(json.dumps(report, indent=1))


def make_maps(number: int, tokens: int) -> Tensor:
    """Return causal maps [map, query, key] in float64, from almost uniform to sharp ones."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(number, tokens, tokens, generator=generator, dtype=torch.float64)
    sharpness = torch.linspace(0.1, 4.0, number, dtype=torch.float64)[:, None, None]
    return (scores * sharpness).softmax(-1).tril()


def index_by_numpy(maps: Tensor) -> Tensor:
    """Return the indices by one SVD after another."""
    found = []
    for matrix in maps.numpy():
        sigma = np.linalg.svd(matrix, compute_uv=False)
        found.append(np.argmax(np.cumsum(sigma) / sigma.sum() >= THRESHOLD) + 1)
    return torch.tensor(found, dtype=torch.float64)


def index_in_float32(maps: Tensor) -> Tensor:
    """Return the indices by our way in float32, without the second look at near ties."""

    def look(block: Tensor) -> Tensor:
        squares = torch.linalg.eigvalsh(block @ block.mT)
        return first_index(squares.clamp_min(0).sqrt().flip(-1), THRESHOLD)

    return over_cores(look, maps.float())


def interleave(
    variants: dict[str, Callable[[Tensor], Tensor]], maps: Tensor, rounds: int
) -> dict[str, float]:
    """Return the median seconds of every variant over rounds that each run all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, index in variants.items():
            start = time.perf_counter()
            index(maps)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(all_[1:]) for name, all_ in seconds.items()}


if __name__ == "__main__":
    main()
