"""Images per second that one core reads, decodes and prepares, without a cache and with one.

    python benchmarks/input.py IMAGES [--image-size 224] [--rounds 5] [--workers 1 2]

IMAGES is anything `--data` takes. A round reads all images without a cache, into an empty cache and
from the filled one, in batches as a run does; its time is the processor time of this one process,
so that other load of the machine matters little. With `--workers`, wall time of worker processes
follows, on an idle machine. Prints JSON; exits 1 if the second run with a cache is not ten times as
fast as the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from illama.sources import open_source
from illama.sources.source import Source
from illama.transforms import Transform, evaluation_transform
from illama_eval.run.loader import ImageReader, load_batches

BATCH = 64
TARGET = 10.0
CPU = torch.device("cpu")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    given = parser.parse_args()
    torch.set_num_threads(1)
    source = open_source(given.images)
    len(source.contents)  # hashed before: a run needs the hashes for its fingerprint anyway
    transform = evaluation_transform(given.image_size)
    taken: dict[str, list[float]] = {"no cache": [], "first run": [], "second run": []}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, cache in (("no cache", None), ("first run", folder), ("second run", folder)):
                root = None if cache is None else Path(cache)
                taken[name].append(seconds(source, transform, root, 0, time.process_time))
    speed = {name: len(source) / statistics.median(each) for name, each in taken.items()}
    for workers in given.workers:
        wall = seconds(source, transform, None, workers, time.perf_counter)
        speed[f"{workers} workers, wall time"] = len(source) / wall
    ratio = speed["second run"] / speed["first run"]
    report = {
        "images": len(source),
        "size": given.image_size,
        "images_per_second": {name: round(each, 1) for name, each in speed.items()},
        "second run over first": round(ratio, 1),
        "first run over no cache": round(speed["first run"] / speed["no cache"], 2),
        "target": TARGET,
    }
    print(json.dumps(report, indent=1))
    return int(ratio < TARGET)


def seconds(
    source: Source,
    transform: Transform,
    cache: Path | None,
    workers: int,
    clock: Callable[[], float],
) -> float:
    """Return the seconds in which every image is read once, in batches."""
    begin = clock()
    reader = ImageReader(source, (transform,), cache=cache)
    positions = np.arange(len(source))
    batches = [positions[i : i + BATCH] for i in range(0, len(source), BATCH)]
    for _ in load_batches(reader, batches, workers, CPU):
        pass
    return clock() - begin


if __name__ == "__main__":
    sys.exit(main())
