"""The training loop: from a recipe and two sources to a log and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from illama.distributed import World, join
from illama.interruption import StopRequest, deferring
from illama.model import Model
from illama.sources.source import Source, SourceError
from illama.training.folder import TrainingFolder
from illama.training.loader import (
    LONGEST_GAP,
    Batch,
    check_splits,
    draw_batches,
    load_batches,
    shard_test,
)
from illama.training.progress import TensorBoardLog, describe, live
from illama.training.recipe import Recipe
from illama.training.task import Record, TrainingError
from illama.training.trainer import LossError, Trainer, task_of


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a training is run; none of it changes results beyond rounding."""

    device: torch.device | str = "cpu"
    """Where to train; each process of `torchrun` takes a GPU of its own."""
    workers: int = 0
    """Processes that read images ahead; not for sources in memory."""
    compiled: bool = False
    """Compile the model first."""
    sharded: bool = False
    """Shard weights, gradients and moments over the processes."""
    resume: str = "auto"
    """`auto`: resume from the folder's newest checkpoint, if any; `no`: refuse a folder that has
    any; else the path of the checkpoint to resume from."""
    keep: int = 3
    """Numbered checkpoints that are kept."""
    keep_every: int | None = None
    """Epochs between weights that are kept for good, as epoch-N.safetensors; None: none are."""
    save_steps: int | None = None
    """Optimizer steps between checkpoints; there is one after each epoch in any case."""
    max_bad: int = 0
    """Most unreadable images to tolerate; each is skipped, counted and named."""
    tensorboard: bool = False
    """Also write the log for TensorBoard."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The result of a training."""

    model: Model
    """In evaluation mode, on the device it was trained on."""
    log: tuple[Record, ...]
    """One record per epoch."""
    checkpoint: Path
    """The `.safetensors` file; a `.pth` in the released layout is next to it."""
    is_main: bool
    """Whether this process is the one that wrote it."""


def fit(
    recipe: Recipe,
    train_source: Source,
    test_source: Source,
    out: Path,
    *,
    execution: Execution | None = None,
    console: Console | None = None,
) -> Trained:
    """Train a model; write recipe.json, log.jsonl, checkpoints and the weights to the folder `out`.

    The weights are named after the folder. On a CPU, equal recipes, images and thread counts give
    equal weights, bit for bit, however often the training is stopped and resumed.

    Args:
        recipe: what to train, and how.
        train_source: labeled images.
        test_source: labeled images, measured after each epoch. The best epoch is kept, but the
            result is the last one: the test images select nothing.
        out: folder, made if missing.
        execution: where, and how; on one CPU unless given.
        console: where a line per epoch and, on a terminal, a progress bar are shown.

    Raises:
        TrainingError: `out` has trained weights or another training, images are unlabeled or
            too few, or the loss is not finite.
        SourceError: the labels do not fit the recipe's classes, training and test images have
            others; or more images than `max_bad` are broken, or a loader worker died, and then
            what was trained is saved.
        RecipeError: the recipe contradicts itself.
        CheckpointError: weights cannot be read or written.
        SystemExit: a signal stopped the process; everything is saved.
    """
    execution = execution or Execution()
    console = console or Console(quiet=True)
    sources = task_of(recipe).check(train_source, test_source, recipe)
    check_splits(sources[0], sources[1], recipe)
    with join(torch.device(execution.device)) as world:
        compiled, sharded = execution.compiled, execution.sharded
        images = len(train_source)
        trainer = Trainer(recipe, images, world, compiled=compiled, sharded=sharded)
        quiet = console if world.is_main else Console(quiet=True)
        folder = TrainingFolder(
            out, trainer, sources[0], execution.keep, quiet, keep_every=execution.keep_every
        )
        with folder.claim() if world.is_main else nullcontext(), deferring() as request:
            world.wait()
            with live(quiet, trainer.steps * recipe.batch_size) as progress:
                loop = _Loop(trainer, folder, sources[0], sources[1], execution, progress, request)
                loop.run()
            model = folder.finish()
            world.wait()
        return Trained(
            model=model.eval(),
            log=tuple(folder.log),
            checkpoint=folder.target,
            is_main=world.is_main,
        )


class _StoppedError(ValueError):
    """A signal came while the test images were measured."""


@dataclass
class _Loop:
    """The loop over optimizer steps."""

    trainer: Trainer
    folder: TrainingFolder
    train_source: Source
    test_source: Source
    execution: Execution
    progress: Progress
    request: StopRequest

    def __post_init__(self) -> None:
        recipe, task = self.trainer.recipe, self.trainer.task
        self.train_images = task.dataset(self.train_source, recipe, training=True)
        self.test_images = task.dataset(self.test_source, recipe, training=False)

    @property
    def world(self) -> World:
        return self.trainer.world

    def run(self) -> None:
        """Train from the first step, or the one that was saved, to the last."""
        trainer, execution = self.trainer, self.execution
        step = self._resume()
        if self.world.is_main:
            self.folder.write_log()
        tensorboard = TensorBoardLog(self.folder.out, self.folder.log, on=execution.tensorboard)
        batches = self._train_batches(step)
        if self.folder.taken and step % trainer.steps_per_epoch == 0:
            self._close_epoch(step, tensorboard)  # it was stopped before or in its test
        while step < trainer.steps:
            trainer.model.train()
            stopping = self._take_step(step, batches)
            step += 1
            if step % trainer.steps_per_epoch == 0:
                self._close_epoch(step, tensorboard)
            elif stopping or (execution.save_steps and step % execution.save_steps == 0):
                self.folder.save(step)
            if stopping:
                self._exit(step)

    def _close_epoch(self, step: int, tensorboard: TensorBoardLog) -> None:
        """Test the model after an epoch's last step, log the epoch, and save."""
        try:
            tested = self._test(step - 1)
        except SourceError:  # workers died, or too many images are broken
            self.folder.save(step)
            raise
        except _StoppedError:
            self.folder.save(step)
            self._exit(step)
        record = self.folder.close_epoch(tested)
        tensorboard.write(record)
        summary = describe(record, self.trainer.recipe.epochs)
        self.progress.console.print(summary, highlight=False)
        self.folder.save(step)

    def _resume(self) -> int:
        """Restore a checkpoint if there is one to resume, and return the next step."""
        chosen, found = self.execution.resume, self.folder.checkpoints
        if chosen == "no" and found:
            raise TrainingError(
                f"{found[-1]}: a training was begun here; resume it with --resume auto, or choose"
                " another --out"
            )
        if chosen == "no" or (chosen == "auto" and not found):
            return 0
        path = found[-1] if chosen == "auto" else Path(chosen)
        step = self.folder.restore(path)
        self.progress.console.print(f"resuming at step {step} from {path}", highlight=False)
        done = step * self.trainer.recipe.batch_size
        self.progress.update(self.progress.task_ids[0], completed=done)
        return step

    def _take_step(self, step: int, batches: Iterator[Batch]) -> bool:
        """Take a step, and return whether to stop after it."""
        try:
            own = self._read_together(batches)
            taken = self.trainer.take_step(step, own, self._stop_requested)
        except LossError as error:
            self.folder.save(step)
            ids = [self.train_source.ids[position] for position in error.positions]
            raise TrainingError(
                f"{error}; everything before it is saved; its images: {', '.join(ids)}"
            ) from None
        except SourceError:  # workers died, or too many images are broken
            self.folder.save(step)
            raise
        self.folder.taken.append(taken.record)
        loss = taken.record["train_loss"]
        batch_size = self.trainer.recipe.batch_size
        self.progress.update(self.progress.task_ids[0], advance=batch_size, loss=loss)
        return taken.stopping

    def _read_together(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield this process's batches of a step; if one fails to read its own, all raise.

        They agree before the passes in which processes wait for each other: the first, which
        exchanges buffers, and the last, which exchanges gradients; sharded, before each.
        """
        trainer = self.trainer
        for number in range(1, trainer.own_passes + 1):
            failure: SourceError | None = None
            batch: Batch | None = None
            try:
                batch = next(batches)
            except SourceError as error:
                failure = error
            if number == 1:
                self.world.raise_together(failure)
            if failure or trainer.sharded or number == trainer.own_passes:
                self.world.raise_together(failure)
            assert batch is not None
            yield batch

    def _test_together(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield this process's test batches; if one process stops or fails, all raise after them.

        Raises:
            SourceError: a process cannot read its images.
            _StoppedError: a process received a signal.
        """
        failure: ValueError | None = None
        try:
            for batch in batches:
                if self._stop_requested():
                    failure = _StoppedError()
                    break
                yield batch
        except SourceError as error:
            failure = error
        self.world.raise_together(failure)

    def _stop_requested(self) -> bool:
        return self.request.signal is not None

    def _train_batches(self, first: int) -> Iterator[Batch]:
        """Yield this process's batches from a step on."""
        trainer = self.trainer
        indices = draw_batches(
            len(self.train_source), trainer.recipe, first, trainer.steps, self.world
        )
        workers = 0 if self.train_source.in_memory else self.execution.workers
        batches = load_batches(self.train_images, indices, workers, self.world.device)
        return self._record_broken(batches, self.train_source)

    def _test(self, step: int) -> Record:
        """Return loss and accuracies at a step's soft mask, at 0, and of the average at 0."""
        trainer, soft_mask = self.trainer, self.trainer.soft_mask(step)
        model = trainer.whole().eval()
        runs: dict[str, Callable[[Tensor], Tensor]] = {"": partial(model, soft_mask=soft_mask)}
        if soft_mask:
            runs["_at_0"] = model
        if trainer.average is not None:
            runs["_ema"] = trainer.average
        indices = shard_test(len(self.test_source), trainer.recipe.batch_size, self.world)
        workers = 0 if self.test_source.in_memory else self.execution.workers
        batches = load_batches(self.test_images, indices, workers, self.world.device)
        own = self._test_together(self._record_broken(batches, self.test_source))
        tested = trainer.task.evaluate(runs, own, self.world)
        if not soft_mask:
            now = {name: value for name, value in tested.items() if not name.endswith("_ema")}
            tested.update({f"{name}_at_0": value for name, value in now.items()})
        self._gather_broken()
        shown = tested["test_acc1_at_0"]
        self.progress.update(self.progress.task_ids[0], accuracy=shown)
        return {**tested, "test_soft_mask_rate": soft_mask}

    def _record_broken(self, batches: Iterable[Batch], source: Source) -> Iterator[Batch]:
        """Yield batches, and record the images that could not be read."""
        for batch in batches:
            for position, why in batch.broken:
                self.folder.broken[f"{source.split}: {source.ids[position]}"] = why
            if batch.broken:
                self._check_broken()
            if not len(batch.images) and source is self.train_source:
                raise SourceError(
                    f"{source.name}: no readable image among {LONGEST_GAP} in a row (first: "
                    f"{batch.broken[0][1]}); fix or remove them"
                )
            yield batch

    def _gather_broken(self) -> None:
        """Share the broken images of all processes."""
        for found in self.world.collect(self.folder.broken):
            self.folder.broken.update(found)
        self._check_broken()

    def _check_broken(self) -> None:
        broken = self.folder.broken
        if len(broken) > self.execution.max_bad:
            name, why = list(broken.items())[-1]
            raise SourceError(
                f"{len(broken)} images are broken, the last {name} ({why}); fix or remove them,"
                f" or pass --max-bad {len(broken)}"
            )

    def _exit(self, step: int) -> NoReturn:
        """End the process; everything is saved."""
        self.progress.console.print(
            f"stopped after step {step}; run the same command to resume", highlight=False
        )
        raise SystemExit(self.request.code)
