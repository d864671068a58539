"""Two versions of the project on the same `illama-eval run`, as a ratio of processor times.

    python benchmarks/versions.py BEFORE AFTER [--rounds 2] -- CHECKPOINT --data IMAGES ...

Both trees are checkouts; each run is a process of its own with one thread, and they alternate. All
that the run does counts: imports, reading, the model, the studies, figures and page. Rows of the
two runs are compared. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("run", nargs="+", help="what follows `illama-eval run`")
    arguments = parser.parse_args()
    trees = {"before": arguments.before.resolve(), "after": arguments.after.resolve()}
    seconds: dict[str, list[float]] = {name: [] for name in trees}
    rows: dict[str, list[dict[str, Any]]] = {}
    for _ in range(arguments.rounds):
        for name, tree in trees.items():
            taken, rows[name] = run(tree, arguments.run)
            seconds[name].append(taken)
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    report = {
        "run": arguments.run,
        "processor seconds": {name: round(taken, 1) for name, taken in median.items()},
        "ratio": round(median["before"] / median["after"], 2),
        "rows": compare(rows["before"], rows["after"]),
    }
    print(json.dumps(report, indent=1))


def run(tree: Path, words: list[str]) -> tuple[float, list[dict[str, Any]]]:
    """Return the processor seconds of one run, and its rows."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [
            sys.executable,
            "-P",
            "-c",
            "from illama_eval.cli import main; main()",
            "run",
            *words,
        ]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(  # noqa: S603 - our own command
            [*command, "--out", out], env=environment, check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = json.loads((out / "run.json").read_text(encoding="utf-8"))["rows"]
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, found


def compare(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many rows there are, and the largest relative difference by study."""
    largest: dict[str, float] = {}
    for one, other in zip(before, after, strict=True):
        same = all(one[key] == other[key] for key in ("study", "metric", "at", "images"))
        assert same, (one, other)
        values = one["value"], other["value"]
        if None in values:
            assert values == (None, None), (one, other)
            continue
        difference = abs(values[0] - values[1]) / max(abs(values[0]), 1e-12)
        largest[one["study"]] = max(largest.get(one["study"], 0.0), difference)
    return {"number": len(before), "largest relative difference": largest}


if __name__ == "__main__":
    main()
