"""Images per second that one core decodes and prepares, and how it grows with threads.

    python benchmarks/input.py IMAGES [--image-size 224]

IMAGES is anything `--data` takes. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from illama.sources import open_source
from illama.sources.source import Source
from illama.transforms import Transform, evaluation_transform


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = open_source(arguments.images)
    transform = evaluation_transform(arguments.image_size)
    speeds: dict[int, list[float]] = {threads: [] for threads in arguments.threads}
    for _ in range(arguments.rounds):
        for threads, taken in speeds.items():
            taken.append(images_per_second(source, transform, threads))
    median = {threads: round(statistics.median(taken), 1) for threads, taken in speeds.items()}
    report = {"images": len(source), "size": arguments.image_size, "images_per_second": median}
    print(json.dumps(report, indent=1))


def images_per_second(source: Source, transform: Transform, threads: int) -> float:
    """Decode and prepare every image once."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda position: transform(source.read(position)), range(len(source))):
            pass
    return len(source) / (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
