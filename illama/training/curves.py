"""The training curves figure: loss, accuracy and soft mask over epochs, from log files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Series = Mapping[int, float]
"""Values by epoch."""

LineStyle = Literal["-", "--", ":"]

PANELS: Sequence[tuple[str, Sequence[tuple[str, LineStyle]]]] = (
    ("loss in nats", (("train_loss", "-"), ("test_loss", "--"))),
    ("test accuracy in %", (("test_acc1", "-"), ("test_acc1_at_0", ":"))),
    ("soft mask", (("train_soft_mask_rate", "-"),)),
)
"""What each panel shows, over which fields of the log, in which line style."""

LINES = {
    "train_loss": "train",
    "test_loss": "test",
    "test_acc1": "top-1 at the current mask",
    "test_acc1_at_0": "top-1 at soft mask 0",
    "train_soft_mask_rate": "mean of each epoch",
}
COLOURS = ("#3271EE", "#E76C2E", "#005725", "#94468F", "#22262C", "#7A828E")
"""Legible in print and to colour-blind readers; reused in order by further runs."""
GREY = "#59616C"
"""Colour of the line styles' legend, which holds for every run."""
WIDEST = 150
"""Most characters of run names in one row of the legend."""


class LogError(ValueError):
    """A log that cannot be drawn; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 3


def read_log(path: Path) -> dict[str, dict[int, float]]:
    """Return the series of a log by field; of an epoch written twice, the last line counts.

    A last line cut off by a crash is skipped.

    Raises:
        LogError: it cannot be read, or has no record with an epoch.
    """
    file = path / "log.jsonl" if path.is_dir() else path
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LogError(f"{file}: cannot be read ({error})") from None
    series: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        record = _parse(file, line, last=number == len(lines))
        for name, value in record.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                series.setdefault(name, {})[int(record["epoch"])] = float(value)
    if not series:
        raise LogError(f"{file}: has no epochs; give the log.jsonl of a training")
    return series


def _parse(file: Path, line: str, *, last: bool) -> dict[str, Any]:
    """Return a line's record, empty where there is nothing to show."""
    if not line.strip():
        return {}
    try:
        record = json.loads(line)
        if isinstance(record, dict) and math.isfinite(record["epoch"]):
            return record
    except (ValueError, KeyError, TypeError):
        if last:
            return {}
    raise LogError(
        f"{file}: {line[:40]!r} is not the record of an epoch; give the log.jsonl of a training"
    )


def draw_curves(logs: Sequence[Path], out: Path) -> None:
    """Write a figure of one or several logs; the suffix chooses its format.

    Raises:
        LogError: a log cannot be drawn, or the figure cannot be written.
    """
    runs = [(name, read_log(path)) for name, path in zip(_names(logs), logs, strict=True)]
    colours = _colours(len(runs))
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        drawn = {
            field: style
            for colour, (_, series) in zip(colours, runs, strict=True)
            for field, style in _draw(axes, series, lines, colour)
        }
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        _name_lines(axes, drawn)
    if len(runs) > 1:
        _name_runs(figure, [name for name, _ in runs], colours)
    try:
        figure.savefig(out, dpi=150)
    except (OSError, ValueError) as error:
        raise LogError(f"{out}: cannot be written ({error})") from None


def _draw(
    axes: Axes, series: Mapping[str, Series], lines: Sequence[tuple[str, LineStyle]], colour: str
) -> list[tuple[str, LineStyle]]:
    """Draw a run's lines of one panel, and return which.

    A line equal to the one before it is left out.
    """
    drawn: dict[str, Series] = {}
    for field, style in lines:
        values = series.get(field, {})
        if not values or values in drawn.values():
            continue
        drawn[field] = values
        epochs = sorted(values)
        marker = "o" if len(epochs) == 1 else ""
        heights = [values[epoch] for epoch in epochs]
        axes.plot(epochs, heights, style, color=colour, marker=marker, linewidth=1.4)
    return [(field, style) for field, style in lines if field in drawn]


def _name_lines(axes: Axes, drawn: Mapping[str, LineStyle]) -> None:
    """Add a legend of a panel's line styles, where there are several."""
    if len(drawn) > 1:
        handles = [Line2D([], [], color=GREY) for _ in drawn]
        for handle, style in zip(handles, drawn.values(), strict=True):
            handle.set_linestyle(style)
        axes.legend(handles, [LINES[field] for field in drawn], fontsize=8, frameon=False)


def _name_runs(figure: Figure, names: Sequence[str], colours: Sequence[str]) -> None:
    """Add a legend of the runs' colours below the panels."""
    handles = [Line2D([], [], color=colour) for colour in colours]
    labels = [name.replace("$", r"\$") for name in names]
    columns = max(1, min(len(names), WIDEST // max(map(len, names))))
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )


def _names(logs: Sequence[Path]) -> list[str]:
    """Return the runs' names: a file's name, or the folder of a log.jsonl.

    Where two runs have the same name, the folder above is put in front.
    """
    files = [(each / "log.jsonl" if each.is_dir() else each).resolve() for each in logs]
    plain = [
        file.parent.name if file.name == "log.jsonl" else file.name.split(".")[0] for file in files
    ]
    return [
        name if plain.count(name) == 1 else f"{file.parents[1].name}/{name}"
        for name, file in zip(plain, files, strict=True)
    ]


def _colours(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
