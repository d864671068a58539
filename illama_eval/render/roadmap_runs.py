"""The finished runs of a roadmap, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from illama_eval.results import ResultError, Run

PLAN = "roadmap.json"
"""The file in a roadmap's folder that describes its steps, recipe and questions."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of a run that the roadmap shows."""

    name: str
    """Column of roadmap.csv."""
    label: str
    study: str
    metric: str
    at: Mapping[str, int | str]
    percent: bool = False


QUANTITIES: Sequence[Quantity] = (
    Quantity(name="top1", label="top-1 %", study="accuracy", metric="top1", at={}, percent=True),
    Quantity(name="nll", label="test NLL", study="accuracy", metric="nll", at={}),
    Quantity(name="ece", label="ECE %", study="calibration", metric="ece", at={}, percent=True),
    Quantity(name="rank_used", label="rank, used", study="rank", metric="rank_of_mean_map", at={}),
    Quantity(
        name="rank_softmax",
        label="rank, before the mask",
        study="rank",
        metric="rank_of_mean_map",
        at={"map": "softmax"},
    ),
    Quantity(
        name="rank_masked",
        label="rank, mask laid over",
        study="rank",
        metric="rank_of_mean_map",
        at={"map": "masked"},
    ),
    Quantity(name="reach", label="reach", study="collapse", metric="reach", at={}),
    Quantity(
        name="feature_spread",
        label="feature spread",
        study="collapse",
        metric="feature_spread",
        at={},
    ),
)
"""What the roadmap shows of every run, beside the training loss in its log."""


@dataclass(frozen=True, kw_only=True)
class RoadmapRun:
    """One trained and measured model."""

    arm: str
    seed: int
    path: Path
    train_loss: float
    values: Mapping[str, float | None]
    """By name of QUANTITIES; None where there is no such map or the number is undefined."""
    verdict: str
    """The verdict on the class token."""


@dataclass(frozen=True, kw_only=True)
class RoadmapRuns:
    """All runs of a folder, with what they share."""

    plan: Mapping[str, Any]
    runs: Sequence[RoadmapRun]

    def of(self, arm: str) -> list[RoadmapRun]:
        """Return the runs of one arm, by seed."""
        return [run for run in self.runs if run.arm == arm]

    @property
    def arms(self) -> list[str]:
        """The arms that have runs, in the plan's order."""
        return [arm for arm in self.plan["arms"] if self.of(arm)]


def read_runs(out: Path) -> RoadmapRuns:
    """Return the runs of a roadmap's folder.

    Raises:
        ResultError: there is no plan or no finished run, or one is damaged.
    """
    try:
        plan = json.loads((out / PLAN).read_text("utf-8"))
        runs = [
            _read(path.parent, arm, int(path.parent.name.rpartition("-seed")[2]))
            for arm in plan["arms"]
            for path in sorted((out / "runs").glob(f"{arm}-seed*/run.json"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        if isinstance(problem, ResultError):
            raise
        raise ResultError(f"{out}: holds no readable roadmap ({problem})") from problem
    if not runs:
        raise ResultError(f"{out / 'runs'}: holds no finished run")
    return RoadmapRuns(
        plan=plan, runs=sorted(runs, key=lambda run: (list(plan["arms"]).index(run.arm), run.seed))
    )


def _read(path: Path, arm: str, seed: int) -> RoadmapRun:
    run = Run.load(path, headline=False)
    last = json.loads((path / "log.jsonl").read_text("utf-8").splitlines()[-1])
    token = [v.verdict for v in run.verdicts if v.name == "class_token_isolation" and not v.at]
    return RoadmapRun(
        arm=arm,
        seed=seed,
        path=path,
        train_loss=float(last["train_loss"]),
        values={each.name: _value(run, each) for each in QUANTITIES},
        verdict=token[0] if token else "",
    )


def _value(run: Run, quantity: Quantity) -> float | None:
    found = [
        row.value
        for row in run.rows
        if (row.study, row.metric) == (quantity.study, quantity.metric)
        and dict(row.at) == dict(quantity.at)
    ]
    return found[0] if found else None
