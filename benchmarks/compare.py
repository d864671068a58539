"""Seconds that `compare`, `report` and the gate need for two large runs, in processes of their own.

    python benchmarks/compare.py [--rows 100000] [--images 50000] [--rounds 3]

Both runs are made up: rows by layer and head with 200 replicates each, eight rows for the whole
source, and per-image records. Seconds are the median of the rounds, start of Python included: of
the wall, and of the processor, which a busy machine changes less. `report` writes the page, its
Markdown and all tables: of one run, and of both side by side. Prints JSON; exits 1 if a command
takes more of the processor than the target, or has loaded torch.
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
from pathlib import Path
from typing import Any

import numpy as np

from illama_eval.result import Row, Run, replicate_table

TARGET = 3.0
HEADLINE = ("top1", "top5", "nll", "ece", "brier", "aurc", "ece_floor", "nll_scaled")
HEADS = 32
PROGRAM = """
import sys
from illama_eval.cli import app
code = app(sys.argv[1:], standalone_mode=False)
sys.exit(77 if "torch" in sys.modules else code)
"""


def main() -> int:
    """Make two runs, time the commands, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("first", "second")]
        for seed, path in enumerate(paths):
            write_run(path, given.rows, given.images, seed)
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
    return int(max(each["processor"] for each in medians.values()) > TARGET)


def write_run(path: Path, rows: int, images: int, seed: int) -> None:
    """Write a run directory with so many rows, all with replicates."""
    random = np.random.default_rng(seed)
    path.mkdir()
    whole = [make_row(random, "calibration", metric, images, {}) for metric in HEADLINE]
    placed = [
        make_row(random, "rank", f"m{number % 10}", images,
                 {"layer": number // 10 // HEADS + 1, "head": number // 10 % HEADS + 1})
        for number in range(rows - len(whole))
    ]  # fmt: skip
    run = Run(header=header(seed), rows=(*placed, *whole))
    (path / "run.json").write_text(run.to_json(), encoding="utf-8")
    np.savez_compressed(path / "replicates.npz", allow_pickle=False, **replicate_table(run.rows))
    ids = np.array([f"val/ILSVRC2012_val_{number:08d}" for number in range(images)])
    records = {name: random.integers(0, 9, (1, images)) for name in ("prediction", "rank")}
    np.savez_compressed(path / "per_image.npz", allow_pickle=False, ids=ids, **records,
                        subjects=np.array(["nano"]), seen=np.ones((1, images)))  # fmt: skip


def make_row(
    random: np.random.Generator, study: str, metric: str, images: int, at: dict[str, int | str]
) -> Row:
    """Return a row with replicates about one half."""
    values = random.normal(0.5, 0.01, 201)
    return Row(subject="nano", source="imagenet", study=study, metric=metric,
               value=float(values[0]), low=0.48, high=0.52, images=images, at=at,
               replicates=values[1:])  # fmt: skip


def header(seed: int) -> dict[str, Any]:
    """Return what makes two runs comparable."""
    better = {name: {"better": "lower", "tolerance": 2e-3} for name in HEADLINE}
    return {
        "identity": {
            "subjects": {"0": {"weights_sha256": str(seed), "transform": {"image_size": 224}}},
            "source": {"fingerprint": "f", "class_subset": None},
            "studies": {"calibration": {}, "rank": {}},
            "replicate_scheme": "poisson1",
        },
        "subjects": [{"name": "nano"}],
        "metrics": {"calibration": better, "rank": {}},
    }


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
from illama_eval.gate import check
from illama_eval.render.junit import to_junit
from illama_eval.render.summary import to_summary
verdicts = check(*map(Path, sys.argv[2:0:-1]))
to_junit(verdicts), to_summary(verdicts)
sys.exit(77 if "torch" in sys.modules else verdicts.exit_code)
"""
    return time_command([str(baseline), str(run)], program)


if __name__ == "__main__":
    sys.exit(main())
