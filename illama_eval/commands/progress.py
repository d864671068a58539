"""What a command is doing: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from illama.distributed import is_main_process
from illama_eval.run.job import Options

PAUSE = 60.0
"""Seconds between two lines, at least."""


@contextmanager
def progress(console: Console, options: Options, doing: str = "measuring") -> Iterator[Options]:
    """Show a bar with images/s and the time left, or lines; yield options that move it.

    Without a terminal there is a line at the beginning and one each minute.
    """
    if not is_main_process():
        yield options
    elif console.is_terminal:
        with _bar(console, doing) as bar:
            task = bar.add_task(doing, total=None)
            yield replace(
                options,
                on_start=lambda total, done: bar.update(task, total=total, completed=done),
                on_batch=lambda images: bar.advance(task, images),
            )
    else:
        lines = _Lines(console, doing)
        yield replace(options, on_start=lines.start, on_batch=lines.advance)


def _bar(console: Console, doing: str) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


@dataclass
class _Lines:
    """Lines on how many images are done."""

    console: Console
    doing: str
    total: int = 0
    done: int = 0
    said: float = 0.0
    """When the last line was printed, by the monotonic clock."""

    def start(self, total: int, done: int) -> None:
        """Print the first line."""
        self.total, self.done = total, done
        self._say(f"{total:,} images" if not done else f"image {done:,} of {total:,}")

    def advance(self, images: int) -> None:
        """Count images, and print a line if the last one was long ago."""
        self.done += images
        if time.monotonic() - self.said >= PAUSE:
            self._say(f"image {self.done:,} of {self.total:,}")

    def _say(self, words: str) -> None:
        self.said = time.monotonic()
        self.console.print(f"{self.doing}: {words}", markup=False, soft_wrap=True)


class _Speed(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        """Return the speed, once there is one."""
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")
