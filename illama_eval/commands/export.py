"""`illama-eval export`: a finished run as a run of MLflow, Weights & Biases or TensorBoard."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from illama.exits import InputError
from illama_eval.compare.subject_run import nested_items
from illama_eval.results import Run, nested_get

Sink = Literal["mlflow", "wandb", "tensorboard"]
PACKAGES: Mapping[Sink, str] = {
    "mlflow": "mlflow",
    "wandb": "wandb",
    "tensorboard": "torch.utils.tensorboard",
}
"""Sink -> the module that writes to it."""
_REFUSED = re.compile(r"[^\w\-. :/]", re.ASCII)
"""Characters that MLflow refuses in names."""
LONGEST = 500
"""Characters of a parameter: what MLflow takes."""


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """One number as these sinks know it."""

    name: str
    """STUDY.METRIC, with `.low` and `.high` for the interval, and the place in it but the layer."""
    value: float
    step: int = 0
    """The layer; 0 for a number of the whole source."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One subject of a run, as a sink gets it."""

    name: str
    """Of the run directory and the subject."""
    parameters: dict[str, str]
    scalars: tuple[Scalar, ...]
    directory: Path
    """The run directory, whose page some sinks store."""
    folder: Path | None
    """Where the sink writes; None: where its own settings say."""

    def by_step(self) -> dict[int, dict[str, float]]:
        """Return the numbers by name, step by step in their order."""
        found: dict[int, dict[str, float]] = {}
        for each in sorted(self.scalars, key=lambda scalar: scalar.step):
            found.setdefault(each.step, {})[each.name] = each.value
        return found


def export(directory: Path, sink: Sink, folder: Path | None = None) -> dict[str, str]:
    """Write every subject of a run to a sink as a run of its own; return by name where it is.

    `folder` is that of MLflow's file store or of TensorBoard's logs; without it the sink's own
    settings decide, and TensorBoard's is `runs`.

    Raises:
        ResultError: there is no readable run.
        InputError: the sink's package is not installed.
    """
    run = Run.load(directory, replicates=False)
    package = _package(sink)
    subjects = list(dict.fromkeys(row.subject for row in run.rows))
    written = {}
    for number, subject in enumerate(subjects):
        exported = Exported(
            name=f"{directory.resolve().name}/{subject}",
            parameters=parameters(run, number),
            scalars=tuple(scalars(run, subject)),
            directory=directory,
            folder=folder,
        )
        written[subject] = _WRITERS[sink](package, exported)
    return written


def scalars(run: Run, subject: str) -> Iterator[Scalar]:
    """Yield the finite numbers of a subject; those by layer have the layer as their step."""
    for row in run.rows:
        if row.subject != subject or row.value is None:
            continue
        at = dict(row.at)
        layer = at.pop("layer", 0)
        step = layer if isinstance(layer, int) else 0
        words = [row.study, row.metric, *(f"{key}_{value}" for key, value in at.items())]
        name = ".".join(words) + ("_by_layer" if step else "")
        yield Scalar(name=name, value=float(row.value), step=step)
        for end, value in (("low", row.low), ("high", row.high)):
            if value is not None:
                yield Scalar(name=f"{name}.{end}", value=float(value), step=step)


def parameters(run: Run, number: int) -> dict[str, str]:
    """Return what identifies a subject's numbers: weights, config, images, study parameters."""
    identity = nested_get(run.header, "identity") or {}
    kept: dict[str, Any] = {key: each for key, each in identity.items() if key != "subjects"}
    kept["subject"] = nested_get(identity, "subjects", str(number)) or {}
    return {name: str(value)[:LONGEST] for name, value in nested_items(kept)}


def _package(sink: Sink) -> ModuleType:
    try:
        return importlib.import_module(PACKAGES[sink])
    except ImportError:
        raise InputError(f"--to {sink}: {sink} is not installed; pip install {sink}") from None


def _to_mlflow(mlflow: Any, exported: Exported) -> str:
    if exported.folder is not None:
        mlflow.set_tracking_uri(exported.folder.resolve().as_uri())
    with mlflow.start_run(run_name=exported.name):
        mlflow.log_params({_REFUSED.sub("_", key): v for key, v in exported.parameters.items()})
        for step, values in exported.by_step().items():
            named = {_REFUSED.sub("_", name): value for name, value in values.items()}
            mlflow.log_metrics(named, step=step)
        for file in ("run.json", "report.html"):
            if (exported.directory / file).exists():
                mlflow.log_artifact(str(exported.directory / file))
    return str(mlflow.get_tracking_uri())


def _to_wandb(wandb: Any, exported: Exported) -> str:
    with wandb.init(name=exported.name, config=exported.parameters, dir=exported.folder) as log:
        for step, values in exported.by_step().items():
            log.log(values, step=step)
        return str(log.url or log.dir)  # without a network it has no address


def _to_tensorboard(tensorboard: Any, exported: Exported) -> str:
    folder = (exported.folder or Path("runs")) / exported.name
    with tensorboard.SummaryWriter(str(folder)) as log:
        for step, values in exported.by_step().items():
            for name, value in values.items():
                log.add_scalar(name.replace(".", "/", 1), value, step)
        lines = [f"| {key} | {value} |" for key, value in exported.parameters.items()]
        log.add_text("identity", "\n".join(["| field | value |", "| :--- | :--- |", *lines]))
    return str(folder)


_WRITERS: Mapping[Sink, Callable[[Any, Exported], str]] = {
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
    "tensorboard": _to_tensorboard,
}
