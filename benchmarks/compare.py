"""Seconds that `compare`, `report` and the gate need for two large runs, in processes of their own.

    python benchmarks/compare.py [--rows 100000] [--images 50000] [--rounds 3]

Two committed runs of CIFAR-10, with all their figures, grown by made-up rows: by layer and head,
with 200 replicates each, and records for each image. Seconds are the median of the rounds,
start of Python included: of the wall, and of the processor, which a busy machine changes less.
`report` writes the page, its Markdown and all tables: of one run, and of both side by side. Prints
JSON; exits 1 if a command takes longer than the target, or has loaded torch.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import msgspec
import numpy as np

from illama_eval.digests import bind
from illama_eval.results import Row, Run, replicate_table

EXAMPLES = Path(__file__).parents[1] / "reports" / "examples"
RUNS = (EXAMPLES / "cifar10", EXAMPLES / "cifar10-bidirectional")

TARGET = 3.0
HEADS = 16
METRICS = 10
PROGRAM = """
import sys
from illama_eval.cli import main
try:
    main()
except SystemExit as ended:
    sys.exit(77 if "torch" in sys.modules else ended.code)
"""


def main() -> int:
    """Make two runs, time the commands, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, run.name) for run in RUNS]
        for run, path in zip(RUNS, paths, strict=True):
            write_run(run, path, given.rows, given.images)
        compare = ["compare", *map(str, paths)]
        found = {"compare": [time_command(compare) for _ in range(given.rounds)]}
        both = ["report", *map(str, paths), "--out", str(Path(folder, "both"))]
        found["report of both"] = [time_command(both) for _ in range(given.rounds)]
        one = ["report", str(paths[0])]
        found["report of one"] = [time_command(one) for _ in range(given.rounds)]
        found["gate"] = [time_gate(*paths) for _ in range(given.rounds)]
    medians = {
        name: {
            "wall": round(statistics.median(wall for wall, _ in each), 2),
            "processor": round(statistics.median(processor for _, processor in each), 2),
        }
        for name, each in found.items()
    }
    print(json.dumps({"rows": given.rows, "images": given.images, "target": TARGET, **medians}))
    return int(max(each["wall"] for each in medians.values()) > TARGET)


def write_run(stored: Path, path: Path, rows: int, images: int) -> None:
    """Write a stored run with rows added up to `rows`, its records repeated up to `images`."""
    run, random = Run.load(stored), np.random.default_rng(0)
    (subject,) = {row.subject for row in run.rows}
    every = product(range(1, rows), range(1, HEADS + 1), range(METRICS))
    added = (
        make_row(random, subject, images, f"m{metric}", {"layer": layer, "head": head})
        for layer, head, metric in islice(every, rows - len(run.rows))
    )
    many = (
        msgspec.structs.replace(row, images=images) if row.study == "accuracy" else row
        for row in run.rows
    )
    run = replace(run, rows=(*many, *added))
    path.mkdir()
    np.savez_compressed(path / "replicates.npz", allow_pickle=False, **replicate_table(run.rows))
    ids = np.array([f"val/ILSVRC2012_val_{number:08d}" for number in range(images)])
    with np.load(stored / "per_image.npz") as kept:
        records = {
            name: np.resize(kept[name], (1, images)) for name in ("seen", "prediction", "rank")
        }
    np.savez_compressed(
        path / "per_image.npz", allow_pickle=False, ids=ids, **records, subjects=np.array([subject])
    )
    (path / "run.json").write_text(bind(run, path).to_json(), encoding="utf-8")


def make_row(
    random: np.random.Generator, subject: str, images: int, metric: str, at: dict[str, int | str]
) -> Row:
    """Return a row with replicates about one half."""
    values = random.normal(0.5, 0.01, 201)
    low, high = np.partition(values[1:], (4, 195))[[4, 195]].tolist()
    return Row(
        subject=subject,
        source="cifar10/test",
        study="collapse",
        metric=metric,
        value=float(values[0]),
        low=low,
        high=high,
        images=images,
        at=at,
        replicates=values[1:],
    )


def time_command(words: list[str], program: str = PROGRAM) -> tuple[float, float]:
    """Return the seconds of one command, started fresh, on the wall and on the processor.

    Raises:
        SystemExit: it failed, or loaded torch.
    """
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", program, *words], check=False, stdout=subprocess.DEVNULL
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 1}:
        sys.exit(f"{words[0]}: exit code {done.returncode}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used


def time_gate(baseline: Path, run: Path) -> tuple[float, float]:
    """Return the seconds of judging a run, all outputs written but the page."""
    program = """
import sys
from pathlib import Path
from illama_eval.compare.gate import check
from illama_eval.render.gate.junit import to_junit
from illama_eval.render.gate.github_summary import to_summary
verdicts = check(*map(Path, sys.argv[2:0:-1]))
to_junit(verdicts), to_summary(verdicts)
sys.exit(77 if "torch" in sys.modules else verdicts.exit_code)
"""
    return time_command([str(baseline), str(run)], program)


if __name__ == "__main__":
    sys.exit(main())
