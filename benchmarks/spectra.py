"""Spectra of single images' attention maps: ours against torch's eigenvalues and an SVD, as ratios.

    python benchmarks/spectra.py [--tokens 65 197 577] [--maps 36] [--rounds 5] [--threads 1]
        [--device cpu]

The maps are softmax of random scores, every second one times the causal mask. Every variant turns
the same fp32 maps into indices, interleaved. On a CPU the ratio is that of processor times, and
for ours the milliseconds waited are given besides: half, where two threads work side by side.
With `--device cuda` it is that of seconds, and the maps start on the GPU, where the first variant
decomposes them in blocks of 256 MB. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from illama_eval.functional.spectrum import first_index, start_index_of_share

THRESHOLD = 0.8
BLOCK_BYTES = 2**28


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[65, 197, 577])
    parser.add_argument("--maps", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(arguments.threads)
    variants: dict[str, Callable[[Tensor], Tensor]] = {
        "torch eigvalsh": index_by_torch,
        "ours": index_by_us,
    }
    if arguments.device == "cpu":
        variants["numpy svd"] = index_by_svd
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter
    report = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "tokens": {
            tokens: measure(
                variants,
                make_maps(arguments.maps, tokens, arguments.device),
                arguments.rounds,
                clock,
            )
            for tokens in arguments.tokens
        },
    }
    print(json.dumps(report, indent=1))


def measure(
    variants: dict[str, Callable[[Tensor], Tensor]],
    maps: Tensor,
    rounds: int,
    clock: Callable[[], float],
) -> dict[str, float | bool]:
    """Return ratios to ours, milliseconds a map, and whether all indices are equal."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, index in variants.items():
            start = clock()
            index(maps)
            taken[name].append(clock() - start)
    start = time.perf_counter()
    variants["ours"](maps)
    waited = time.perf_counter() - start
    median = {name: statistics.median(all_[1:]) for name, all_ in taken.items()}
    found = [index(maps) for index in variants.values()]
    ratios = {f"{name} over ours": round(t / median["ours"], 2) for name, t in median.items()}
    return {
        **ratios,
        "milliseconds a map": round(1e3 * median["ours"] / len(maps), 3),
        "milliseconds waited for a map": round(1e3 * waited / len(maps), 3),
        "equal indices": all(torch.equal(each, found[0]) for each in found),
    }


def make_maps(number: int, tokens: int, device: str) -> Tensor:
    """Return maps [map, query, key] in fp32, from almost uniform to sharp ones."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(number, tokens, tokens, generator=generator)
    maps = (scores * torch.linspace(0.1, 4.0, number)[:, None, None]).softmax(-1)
    maps[::2] = maps[::2].tril()
    return maps.to(device)


def index_by_us(maps: Tensor) -> Tensor:
    """Return the indices by our way, waited for."""
    return torch.cat([part.result() for part in start_index_of_share(maps, THRESHOLD)])


def index_by_torch(maps: Tensor) -> Tensor:
    """Return the indices by torch's eigenvalues of A A^T, in float64 blocks on the maps' device."""
    size = max(1, BLOCK_BYTES // (8 * maps.shape[-1] ** 2))

    def look(block: Tensor) -> Tensor:
        exact = block.to(torch.float64)
        squares = torch.linalg.eigvalsh(exact @ exact.mT)
        return first_index(squares.clamp_min(0).sqrt().flip(-1), THRESHOLD)

    return torch.cat([look(block) for block in torch.split(maps, size)]).cpu()


def index_by_svd(maps: Tensor) -> Tensor:
    """Return the indices by one SVD of numpy after another."""
    decompose = partial(np.linalg.svd, compute_uv=False)
    sigma = np.stack([decompose(matrix) for matrix in maps.double().numpy()])
    return first_index(torch.from_numpy(sigma), THRESHOLD)


if __name__ == "__main__":
    main()
