"""Seconds until `--help` is printed, beside a bare interpreter. Prints JSON.

python benchmarks/start.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "python": "pass",
    "illama --help": "import sys; sys.argv[1:] = ['--help']; import illama.cli as c; c.main()",
    "illama-eval --help": (
        "import sys; sys.argv[1:] = ['--help']; import illama_eval.cli as c; c.main()"
    ),
}


def main() -> None:
    """Measure and print."""
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(7):
        for name, code in PROGRAMS.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)  # noqa: S603 - our own code
            seconds[name].append(time.perf_counter() - begin)
    print(json.dumps({name: round(statistics.median(s), 3) for name, s in seconds.items()}))


if __name__ == "__main__":
    main()
