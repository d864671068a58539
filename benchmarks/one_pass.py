"""One pass with four studies against four passes with one each, and against accuracy alone.

    python benchmarks/one_pass.py IMAGES [--size tiny] [--limit 60]

IMAGES is a folder of 224-pixel photographs in class folders. All variants measure the same random
weights on the same files, interleaved; the ratio is that of the medians. What the studies' own
arithmetic costs is measured separately, by timing their `measure` and `summarize` within the pass.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from illama.config import Config
from illama.model import Model
from illama.sources import open_source
from illama.sources.head import for_head
from illama.sources.source import Source
from illama.transforms import evaluation_transform
from illama_eval.run.environment import peak_memory
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.studies import STUDIES
from illama_eval.study import Study
from illama_eval.subjects.checkpoint import ModelSubject

MEASURED = ("accuracy", "calibration", "rank", "collapse")
"""Studies that a single model and any labeled images feed."""


class Stopwatch:
    """Seconds spent inside the `measure` and `summarize` of some studies."""

    def __init__(self, studies: Sequence[Study]) -> None:
        self.seconds = 0.0
        for study in studies:
            for name in ("measure", "summarize"):
                object.__setattr__(study, name, partial(self._time, getattr(study, name)))

    def _time(self, work: Callable[[Any], Any], given: Any) -> Any:
        begin = time.perf_counter()
        done = work(given)
        self.seconds += time.perf_counter() - begin
        return done


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = Model(Config.at("soft-mask", arguments.size)).eval()
    subject = ModelSubject(
        name="random", model=model, transform=evaluation_transform(model.config.image_size)
    )
    source = for_head(open_source(arguments.images), 1000).limit(arguments.limit, 0)
    seconds: dict[str, list[float]] = {}
    own: list[float] = []
    for _ in range(arguments.rounds):
        studies = build()
        watch = Stopwatch(studies)
        seconds.setdefault("four studies, one pass", []).append(run(subject, source, studies))
        own.append(watch.seconds)
        each = [run(subject, source, [study]) for study in build()]
        seconds.setdefault("four passes, one study each", []).append(sum(each))
        seconds.setdefault("accuracy alone", []).append(each[0])
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    together = median["four studies, one pass"]
    arithmetic = statistics.median(own)
    report = {
        "threads": torch.get_num_threads(),
        "size": arguments.size,
        "images": arguments.limit,
        "seconds": {name: round(taken, 2) for name, taken in median.items()},
        "one pass over four": round(median["four passes, one study each"] / together, 2),
        "one pass over accuracy alone": round(together / median["accuracy alone"], 2),
        "seconds in the studies' own arithmetic": round(arithmetic, 2),
        "without it, over accuracy alone": round(
            (together - arithmetic) / median["accuracy alone"], 2
        ),
        "peak_memory_MiB": round(peak_memory(torch.device("cpu")) / 2**20),
    }
    print(json.dumps(report, indent=1))


def build() -> list[Study]:
    """Return the four studies; 30 single spectra, as many as the paper's images."""
    return [STUDIES[name](**({"spectra": 30} if name == "rank" else {})) for name in MEASURED]


def run(subject: ModelSubject, source: Source, studies: Sequence[Study]) -> float:
    """Return the seconds of one evaluation."""
    begin = time.perf_counter()
    evaluate(subject, source, studies, options=Options(samples=False))
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
