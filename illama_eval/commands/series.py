"""`illama-eval sweep` and `trajectory`: one model over a range of something, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from illama.exits import InputError, UsageError
from illama_eval.commands.checkpoints import parse_checkpoint
from illama_eval.commands.evaluate import run_and_report
from illama_eval.commands.idle import refuse_idle
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.resolve import resolve
from illama_eval.commands.settings import open_one, refuse_idle_seed
from illama_eval.run.job import Variable
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT, ModelSubject

Swept = Literal["soft_mask", "image_size"]
MOST = 64
"""Values of a sweep: each is a model of its own in memory."""
DECIMALS = 9
"""Decimals of a value, by which models are named."""
KEPT = "epoch-*.safetensors"
"""What `illama train --keep-every` writes."""
STUDIES: Mapping[str, Mapping[str, Any]] = {
    "accuracy": {},
    "calibration": {},
    "rank": {},
    "collapse": {},
    "agreement": {},
}
"""What is measured over the range, as far as the images allow it."""


def run_sweep(shared: SharedOptions, name: Swept, values: Sequence[float]) -> int:
    """Measure one checkpoint at every value of an option, beside its own; return the exit code.

    Raises:
        UsageError: several checkpoints, or no value that can be run.
        CheckpointError: the checkpoint is refused, at one of the values perhaps.
    """
    refuse_idle(shared.given, {"models", "weights"}, "sweep, which takes a checkpoint")
    paths = shared.checkpoints or [DEMO_CHECKPOINT]
    if len(paths) > 1:
        raise UsageError("sweep takes one checkpoint; sweep others one by one")
    own = open_one(shared, parse_checkpoint(paths[0]))
    current = own.soft_mask if name == "soft_mask" else own.model.config.image_size
    ordered = sorted({*values, current})
    if len(ordered) > MOST:
        raise UsageError(f"a sweep takes {MOST} values at most, not {len(ordered)}")
    subjects = [
        own if value == current else _at(shared, paths[0], own, name, value) for value in ordered
    ]
    variable = Variable(name=name, values=tuple(ordered), reference=ordered.index(current))
    return _measure(shared, "sweep", subjects, variable)


def run_trajectory(shared: SharedOptions) -> int:
    """Measure the checkpoints of one training in the order of their epochs; return the exit code.

    Each is run with the soft mask that it was trained with last.

    Raises:
        InputError: there are fewer than two, an epoch is unknown or there twice, or they are of
            different architectures.
    """
    refuse_idle(shared.given, {"models", "weights"}, "trajectory, which takes checkpoints")
    paths = _checkpoints(shared.checkpoints or [])
    opened = [open_one(shared, parse_checkpoint(path)) for path in paths]
    epochs = [_epoch_of(subject, path) for subject, path in zip(opened, paths, strict=True)]
    _check_one_training(paths, opened, epochs)
    order = np.argsort(epochs).tolist()
    subjects = [replace(opened[i], name=f"epoch {epochs[i]}") for i in order]
    variable = Variable(name="epoch", values=tuple(float(epochs[i]) for i in order))
    return _measure(shared, "trajectory", subjects, variable)


def parse_values(given: str, *, whole: bool = False) -> tuple[float, ...]:
    """Return the numbers of `START:STOP:STEP`, both ends included, or of `A,B,C`.

    Raises:
        UsageError: it is neither, too many values, or a number is not whole where it must be.
    """
    try:
        parts = [float(part) for part in given.replace(":", ",").split(",")]
    except ValueError:
        parts = []
    if not np.isfinite(parts).all():
        parts = []
    if ":" in given:
        parts = _spread(*parts) if len(parts) == 3 and parts[2] > 0 else []  # noqa: PLR2004
    parts = [round(part, DECIMALS) for part in parts]
    if not parts or (whole and any(part != int(part) for part in parts)):
        kind = "whole numbers" if whole else "numbers"
        raise UsageError(f"{given} is not {kind} as START:STOP:STEP or A,B,C")
    return tuple(dict.fromkeys(parts))


def _spread(start: float, stop: float, step: float) -> list[float]:
    """Return the numbers from `start` to `stop`, which is one of them up to rounding.

    Raises:
        UsageError: there are more than a sweep takes.
    """
    steps = np.floor((stop - start) / step + 10.0**-DECIMALS)
    if steps >= MOST:
        raise UsageError(f"a sweep takes {MOST} values at most, not {steps + 1:.0f}")
    return [start + number * step for number in range(int(steps) + 1)]


def _at(
    shared: SharedOptions, path: Path, own: ModelSubject, name: Swept, value: float
) -> ModelSubject:
    """Return the checkpoint at another value; another soft mask needs no second model."""
    label = f"{own.name} at {value:.{DECIMALS}g}"
    if name == "soft_mask":
        if own.model.config.masking != "multiplicative":
            raise InputError(
                f"{path}: its masking is {own.model.config.masking}; only the multiplicative mask "
                "has a soft form"
            )
        if not 0 <= value <= 1:
            raise UsageError(f"--soft-mask {value:g}: a soft mask is between 0 and 1")
        return replace(own, name=label, soft_mask=value)
    return replace(open_one(shared, parse_checkpoint(path), image_size=int(value)), name=label)


def _checkpoints(given: Sequence[Path]) -> list[Path]:
    """Return the files, those of a folder for a folder: what a training kept of its epochs."""
    found: list[Path] = []
    for path in given:
        found += sorted(path.glob(KEPT)) if path.is_dir() else [path]
    if len(found) < 2:  # noqa: PLR2004 - a line has two points
        raise InputError(
            f"a trajectory needs two checkpoints, not {len(found)}; name files, or the folder of "
            "`illama train --keep-every N`"
        )
    return found


def _epoch_of(subject: ModelSubject, path: Path) -> int:
    epoch = subject.provenance.get("epoch")
    if epoch is None:
        raise InputError(f"{path}: does not say of which epoch it is")
    return int(epoch) + 1


def _check_one_training(
    paths: Sequence[Path], opened: Sequence[ModelSubject], epochs: Sequence[int]
) -> None:
    """Raise unless the checkpoints can be the epochs of one training."""
    seen: dict[int, Path] = {}
    for path, subject, epoch in zip(paths, opened, epochs, strict=True):
        if epoch in seen:
            raise InputError(f"{seen[epoch]} and {path}: both are of epoch {epoch}; name one")
        seen[epoch] = path
        if subject.model.config != opened[0].model.config:
            raise InputError(
                f"{path}: another architecture than {paths[0]}; a trajectory is of one training"
            )


def _measure(
    shared: SharedOptions, command: str, subjects: Sequence[ModelSubject], variable: Variable
) -> int:
    refuse_idle_seed(shared)
    request = resolve(shared, command, STUDIES, opened=subjects)
    return run_and_report(shared, replace(request, variable=variable))
