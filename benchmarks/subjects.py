"""Two subjects in one run against a run of each, where decoding is most of the work.

    python benchmarks/subjects.py IMAGES [--limit 100] [--patch-size 32] [--rounds 5]

IMAGES is a folder of photographs in class folders. Both subjects have random weights of the size
nano at 224 pixels, and are measured by accuracy alone: with patches of 32 pixels decoding and
resizing take most of the time, with patches of 16 the models do. The share is measured and printed.
The variants are interleaved; the ratio is that of the medians. Prints JSON; exits 1 if the ratio is
below the target where decoding is more than half.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence

import torch

from illama.config import Config
from illama.model import Model
from illama.sources import open_source
from illama.sources.head import for_head
from illama.sources.source import Source
from illama.transforms import evaluation_transform
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import ModelSubject

TARGET = 1.3
IMAGE_SIZE = 224


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--patch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    source = for_head(open_source(given.images), 1000).limit(given.limit, 0)
    subjects = [make_subject(seed, given.patch_size) for seed in (0, 1)]
    together, separate, decoding = [], [], []
    for _ in range(given.rounds):
        together.append(run(subjects, source))
        separate.append(sum(run([subject], source) for subject in subjects))
        decoding.append(decode(subjects[0], source))
    one, two, read = map(statistics.median, (together, separate, decoding))
    report = {
        "threads": torch.get_num_threads(),
        "images": len(source),
        "patch_size": given.patch_size,
        "seconds": {"one run": round(one, 2), "two runs": round(two, 2)},
        "share of decoding and resizing in two runs": round(2 * read / two, 2),
        "two runs over one": round(two / one, 2),
        "target": TARGET,
    }
    print(json.dumps(report, indent=1))
    return int(two / one < TARGET and 2 * read > two / 2)


def make_subject(seed: int, patch_size: int) -> ModelSubject:
    """Return a model of the size nano at 224 pixels, with random weights."""
    torch.manual_seed(seed)
    changes = {"image_size": IMAGE_SIZE, "patch_size": patch_size, "classes": 1000}
    model = Model(Config.at("soft-mask", "nano", **changes)).eval()
    return ModelSubject(
        name=f"random-{seed}", model=model, transform=evaluation_transform(IMAGE_SIZE)
    )


def run(subjects: Sequence[ModelSubject], source: Source) -> float:
    """Return the seconds of one evaluation by accuracy alone."""
    begin = time.perf_counter()
    evaluate(subjects, source, [STUDIES["accuracy"]()], options=Options(samples=False))
    return time.perf_counter() - begin


def decode(subject: ModelSubject, source: Source) -> float:
    """Return the seconds of reading and preparing every image, without any model."""
    begin = time.perf_counter()
    for position in range(len(source)):
        subject.prepare(source.read(position))
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
