"""`illama-eval report`: pages of finished runs, and the gate; only the demo loads torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from illama_eval.commands.options import ALL_STUDIES, REPORTS, SharedOptions
from illama_eval.compare.gate import GateResult, check, write_baseline
from illama_eval.compare.policy import read_policy
from illama_eval.render import write_report
from illama_eval.render.gate.github_summary import append_summary
from illama_eval.render.gate.junit import write_junit
from illama_eval.render.gate.words import to_json
from illama_eval.render.style.figure import FigureStyle
from illama_eval.render.terminal.gate import show_verdicts
from illama_eval.render.terminal.status import announced
from illama_eval.render.terminal.tables import result_console
from illama_eval.results import files_of


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a run is compared with, and where the verdict is written besides the terminal."""

    baseline: Path
    policy: Path | None = None
    junit: Path | None = None
    summary: Path | None = None
    update: bool = False
    """Whether the run becomes the baseline."""
    as_json: bool = False
    """Whether the verdict is printed as JSON."""


def report(
    runs: Sequence[Path], out: Path | None, gate: Gate | None, figures: FigureStyle | None = None
) -> int:
    """Write the reports of runs, judge the run of a gate, and return the exit code.

    `figures` is how the figures are drawn as files, beside those in the page; None: not at all.
    Without runs every run directory below reports/ gets its own; if there is none, the demo is
    measured first.

    Raises:
        ResultError: a run or a policy cannot be read, or something cannot be written.
    """
    log = Console(stderr=True, highlight=False)
    verdicts = _judge(runs[0], gate, log) if gate else None
    pages = [runs] if runs else [[each] for each in _all_runs()]
    for page in pages:
        with announced(log, "drawing figures and page"):
            written = write_report(page, out, verdicts, figures=figures)
        path = next(path for path in written if path.name == "report.html")
        log.print(f"written to {path}", markup=False, soft_wrap=True)
    return verdicts.exit_code if verdicts else 0


def _judge(run: Path, gate: Gate, log: Console) -> GateResult | None:
    """Print the verdict and write its files; return None if the run is the new baseline.

    Raises:
        ResultError: the run or the policy cannot be read, or a file cannot be written.
    """
    verdicts = None
    if files_of(gate.baseline)[0].exists() or not gate.update:
        policy = read_policy(gate.policy) if gate.policy else None
        verdicts = check(run, gate.baseline, policy)
        _write_verdicts(verdicts, gate)
    if not gate.update:
        return verdicts
    write_baseline(run, gate.baseline)
    log.print(f"{gate.baseline} is now the headline of {run}", markup=False, soft_wrap=True)
    return None


def _write_verdicts(verdicts: GateResult, gate: Gate) -> None:
    """Print the verdict and write the files of the gate."""
    if gate.as_json:
        sys.stdout.write(to_json(verdicts))
    else:
        show_verdicts(verdicts, result_console())
    if gate.junit:
        write_junit(verdicts, gate.junit)
    if gate.summary:
        append_summary(verdicts, gate.summary)


def _all_runs() -> list[Path]:
    """Return every run directory below reports/; if there is none, measure the demo."""
    if not list(REPORTS.rglob("run.json")):
        from illama_eval.commands.evaluate import measure  # noqa: PLC0415 - reading runs needs no torch

        demo = SharedOptions(command=("illama-eval", "run"))
        measure(demo, "run", {name: {} for name in ALL_STUDIES})
    return sorted(path.parent for path in REPORTS.rglob("run.json"))
