"""The output folder of a training: log, recipe and the checkpoints from which it resumes.

All random numbers of a training are functions of seed and step, so its whole state is the weights,
moments, scaler, step and log. Moments have the weights' order in memory, which is not that of
released files: they are kept under a key of our own, and those of other files are never read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from illama.checkpoint.archive import unpack
from illama.checkpoint.formats import to_official
from illama.files import CheckpointError, about, replacing
from illama.model import Model
from illama.sources.source import Source
from illama.training.task import Record, TrainingError
from illama.training.trainer import Trainer

STATE = "training"
"""Key of a checkpoint under which the state needed to resume is kept."""
BEST = "checkpoint-best.pth"
BROKEN = "broken.txt"
"""Lists the images that could not be read, a line each: `split: id: reason`."""
_NUMBERED = re.compile(r"checkpoint-(\d+)\.pth")
_FREE = ("name", "summary", "data")
"""Fields of a recipe that may change when a training is resumed."""


class TrainingFolder:
    """Writes a training's log and checkpoints to its folder, and restores from them.

    Attributes:
        log: a record per finished epoch.
        taken: the records of the steps taken in the current epoch.
        broken: reasons by the ids of images that could not be read.
    """

    def __init__(
        self,
        out: Path,
        trainer: Trainer,
        source: Source,
        keep: int,
        console: Console,
        *,
        keep_every: int | None = None,
    ) -> None:
        self.out = out
        self.trainer = trainer
        self.given = {**trainer.recipe.to_dict(), "train_fingerprint": source.fingerprint}
        self.class_names = source.mask_classes or source.classes
        self.keep = keep
        self.keep_every = keep_every
        self.console = console
        self.log: list[Record] = []
        self.taken: list[Record] = []
        self.broken: dict[str, str] = {}

    @property
    def target(self) -> Path:
        """The weights file of a finished training."""
        return self.out / f"{self.out.resolve().name}.safetensors"

    @property
    def checkpoints(self) -> list[Path]:
        """Numbered checkpoints in the folder, the newest last."""
        return sorted(
            (path for path in self.out.glob("checkpoint-*.pth") if _NUMBERED.fullmatch(path.name)),
            key=_step_of,
        )

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Lock the folder, so that no second training uses it.

        Raises:
            TrainingError: another process uses it, it has trained weights, or the disk is too full.
        """
        if self.target.exists():
            raise TrainingError(
                f"{self.target} exists, so training is done; choose another --out, or remove it"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        self._check_space()
        try:
            with FileLock(self.out / ".lock", timeout=0):
                yield
        except Timeout:
            raise TrainingError(
                f"{self.out} is in use by another training process; wait for it, or choose"
                " another --out"
            ) from None

    def _check_space(self) -> None:
        """Raise if the checkpoints would not fit on the disk."""
        weights = sum(p.numel() * p.element_size() for p in self.trainer.model.parameters())
        copies = 3 if self.trainer.average is None else 4
        epochs = self.trainer.steps // self.trainer.steps_per_epoch
        lasting = epochs // self.keep_every + 1 if self.keep_every else 0
        needed = weights * (copies * (self.keep + 2) + lasting)
        free = shutil.disk_usage(self.out).free
        if free < needed:
            raise TrainingError(
                f"{self.out}: {free / 1e9:.1f} GB free, but the training writes up to"
                f" {needed / 1e9:.1f} GB; free some, or lower --keep"
            )

    def close_epoch(self, tested: Record) -> Record:
        """Add an epoch to the log: the means of its steps, and its test results."""
        record: Record = {
            **{name: fmean(each[name] for each in self.taken) for name in self.taken[0]},
            **tested,
            "epoch": len(self.log),
            "n_parameters": sum(p.numel() for p in self.trainer.model.parameters()),
        }
        if self.broken:
            record["broken_images"] = len(self.broken)
        self.log.append(record)
        self.taken.clear()
        return record

    def write_log(self) -> None:
        """Write recipe.json, log.jsonl and, if there are broken images, broken.txt."""
        recipe = json.dumps(self.trainer.recipe.to_dict(), indent=2)
        texts = {
            "recipe.json": recipe,
            "log.jsonl": "\n".join(json.dumps(record) for record in self.log),
            BROKEN: "\n".join(f"{name}: {why}" for name, why in self.broken.items()),
        }
        for name, text in texts.items():
            if text or name == "log.jsonl":
                with replacing(self.out / name) as stream:
                    stream.write(f"{text}\n".encode() if text else b"")

    def save(self, step: int) -> None:
        """Write everything needed to resume at `step`; a failure leaves the last good checkpoint.

        All processes call it, the main one writes. A full disk is reported and does not stop the
        training: there may be space the next time.
        """
        path = self.out / f"checkpoint-{step}.pth"
        model, state = self.trainer.whole(), self._state(step)
        if not self.trainer.world.is_main:
            return
        try:
            self.write_log()
            self._write(model, path, step, {STATE: state})
            if self.log and not self.taken:
                self._keep_epoch(model, step)
                if self._is_best():
                    _link(path, self.out / BEST)
        except (CheckpointError, OSError) as error:
            kept = self.checkpoints
            last = f"the last good checkpoint is {kept[-1]}" if kept else "there is none yet"
            self.console.print(f"not saved: {error}; {last}", highlight=False, markup=False)
            return
        for old in self.checkpoints[: -self.keep]:
            old.unlink()

    def _keep_epoch(self, model: Model, step: int) -> None:
        """Write the weights of an epoch that is kept for good: every so many, and the last."""
        epoch = len(self.log)
        due = self.keep_every and (epoch % self.keep_every == 0 or step == self.trainer.steps)
        if due:
            self._write(model, self.out / f"epoch-{epoch:04d}.safetensors", step, {})

    def finish(self) -> Model:
        """Write the trained weights in both layouts and return their model.

        Raises:
            CheckpointError: they cannot be written; the last checkpoint has them.
        """
        model = self.trainer.whole()
        if self.trainer.world.is_main:
            self.write_log()
            for path in (self.target.with_suffix(".pth"), self.target):
                self._write(model, path, self.trainer.steps, {})
        return model

    def restore(self, path: Path) -> int:
        """Resume the training of a checkpoint and return its step.

        Raises:
            TrainingError: it was written by another recipe, for other images, or not for resuming.
            CheckpointError: it is missing or damaged.
        """
        with about(path):
            state = unpack(path).payload.get(STATE)
        if state is None:
            raise TrainingError(
                f"{path}: has only weights, no training to resume; name a checkpoint-N.pth"
            )
        self._check_same(path, json.loads(state["given"]))
        trainer = self.trainer
        trainer.resume_from(trainer.task.read(path), state["optimizer"])
        if trainer.average is not None:
            averaged = trainer.task.read(path, ema=True)
            trainer.average.load_state_dict(averaged.state_dict())
        trainer.scaler.load_state_dict(state["scaler"])
        written = json.loads(state["written"])
        self.log, self.taken, self.broken = (written[k] for k in ("log", "taken", "broken"))
        return int(state["step"])

    def _check_same(self, path: Path, given: dict[str, Any]) -> None:
        """Raise if the checkpoint has other settings, and name them."""
        names = [name for name in {**given, **self.given} if name not in _FREE]
        other = [name for name in names if given.get(name) != self.given.get(name)]
        if other:
            differences = ", ".join(
                f"{name} {given.get(name)} there, {self.given.get(name)} here" for name in other
            )
            raise TrainingError(
                f"{path}: cannot resume with other settings ({differences}); use the same, or"
                " choose another --out"
            )

    def _state(self, step: int) -> dict[str, Any]:
        """Return the state that is needed to resume."""
        written = {"log": self.log, "taken": self.taken, "broken": self.broken}
        return {
            "step": step,
            "optimizer": self.trainer.moments(),
            "scaler": self.trainer.scaler.state_dict(),
            "given": json.dumps(self.given),
            "written": json.dumps(written),
        }

    def _write(self, model: Model, path: Path, step: int, extra: dict[str, Any]) -> None:
        """Write the weights, with the soft mask of the last step as the one to run with."""
        trainer = self.trainer
        averaged = {} if path.suffix != ".pth" else _averaged(trainer)
        trainer.task.save(
            model,
            path,
            soft_mask=trainer.soft_mask(max(step - 1, 0)),
            epoch=step // trainer.steps_per_epoch - 1 if step >= trainer.steps_per_epoch else None,
            args=self.given,
            class_names=self.class_names,
            extra={**averaged, **extra},
        )

    def _is_best(self) -> bool:
        """Return whether the last epoch is the best so far at soft mask 0."""
        scores = [record.get("test_miou_at_0", record["test_acc1_at_0"]) for record in self.log]
        return scores[-1] > max(scores[:-1], default=-1)


def _averaged(trainer: Trainer) -> dict[str, Any]:
    """Return the averaged weights under the names of released files."""
    if trainer.average is None:
        return {}
    mlp = trainer.model.config.mlp
    state = trainer.average.state_dict()
    return {"model_ema": {to_official(name, mlp): state[name].cpu() for name in state}}


def _step_of(path: Path) -> int:
    found = _NUMBERED.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _link(path: Path, best: Path) -> None:
    """Link a second name to the checkpoint, atomically; it remains when the first is removed."""
    temporary = best.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without links
        shutil.copy2(path, temporary)
    temporary.replace(best)
