"""Progress of a training: a live line, a line per epoch, and an optional TensorBoard log."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from illama.training.task import Record, TrainingError


class _Speed(ProgressColumn):
    """Recent speed in images per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} images/s")


def live(console: Console, images: int) -> Progress:
    """Return a progress line with one task, counted in images; shown on a terminal only."""
    line = Progress(
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("test top-1 {task.fields[accuracy]:.2f} %"),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    line.add_task("images", total=images, loss=math.nan, accuracy=math.nan)
    return line


def describe(record: Record, epochs: int) -> str:
    """Return one line about an epoch."""
    broken = f", {record['broken_images']} images broken" if "broken_images" in record else ""
    miou = f"test mIoU {record['test_miou']:.2f} %, " if "test_miou" in record else ""
    soft = record["test_soft_mask_rate"]
    causal = f" at soft mask {soft:.2f}, {record['test_acc1_at_0']:.2f} % at 0" if soft else ""
    return (
        f"epoch {record['epoch'] + 1}/{epochs}: loss {record['train_loss']:.3f}, {miou}"
        f"test top-1 {record['test_acc1']:.2f} %{causal}{broken}"
    )


class TensorBoardLog:
    """A second copy of the log, for TensorBoard.

    Raises:
        TrainingError: it is on and TensorBoard is not installed.
    """

    def __init__(self, out: Path, log: Iterable[Record], *, on: bool) -> None:
        self.writer: Any = None
        if not on:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an optional package
        except ImportError:
            raise TrainingError("TensorBoard is not installed; pip install tensorboard") from None
        self.writer = SummaryWriter(str(out / "tensorboard"))
        for record in log:
            self.write(record)

    def write(self, record: Record) -> None:
        """Write an epoch's record."""
        if self.writer is None:
            return
        for name, value in record.items():
            self.writer.add_scalar(name, value, record["epoch"])
        self.writer.flush()
