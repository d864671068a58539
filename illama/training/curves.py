"""The training curves figure: loss, accuracy and soft mask over epochs, from log files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from illama.figure_style import AXIS, BLACK, BLUE, FONT_SIZE, GREEN, MUTED, ORANGE, PURPLE, SETTINGS

Series = Mapping[int, float]
"""Values by epoch."""

LineStyle = Literal["-", "--", ":"]

PANELS: Sequence[tuple[str, Sequence[tuple[str, LineStyle]]]] = (
    ("loss in nats", (("train_loss", "-"), ("test_loss", "--"))),
    ("test accuracy in %", (("test_acc1", "-"), ("test_acc1_at_0", ":"))),
    ("soft mask", (("train_soft_mask_rate", "-"),)),
)
"""What each panel shows, over which fields of the log, in which line style."""

STEPS = frozenset({"train_soft_mask_rate"})
"""Fields that hold for a whole epoch, and jump at its end."""

LINES = {
    "train_loss": "train",
    "test_loss": "test",
    "test_acc1": "current mask",
    "test_acc1_at_0": "soft mask 0",
    "train_soft_mask_rate": "mean of each epoch",
}
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BLACK, AXIS)
"""Of the runs; reused in order by further ones."""
WIDEST = 90
"""Most characters of run names in one row of the legend."""
STYLE: Mapping[str, Any] = {
    **SETTINGS,
    "font.size": FONT_SIZE,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "lines.linewidth": 1.4,
}
"""How the figure looks."""


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
    with style.context(["default", dict(STYLE)]):
        figure = _draw_panels(runs)
        try:
            figure.savefig(out)
        except (OSError, ValueError) as error:
            raise LogError(f"{out}: cannot be written ({error})") from None


def _draw_panels(runs: Sequence[tuple[str, Mapping[str, Series]]]) -> Figure:
    """Return the panels with all runs; runs of the same numbers are one line under all names."""
    alike: dict[str, list[str]] = {}
    logs = {}
    for name, series in runs:
        content = json.dumps({field: series.get(field, {}) for field in LINES}, sort_keys=True)
        alike.setdefault(content, []).append(name)
        logs[content] = series
    colours = dict(zip(alike, _colours(len(alike)), strict=True))
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        drawn = {
            field: dash
            for content, colour in colours.items()
            for field, dash in _draw(axes, logs[content], lines, colour)
        }
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _name_lines(axes, drawn)
    if len(runs) > 1:
        _name_runs(figure, [_joined(names) for names in alike.values()], list(colours.values()))
    return figure


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names)} (identical)"


def _draw(
    axes: Axes, series: Mapping[str, Series], lines: Sequence[tuple[str, LineStyle]], colour: str
) -> list[tuple[str, LineStyle]]:
    """Draw a run's lines of one panel, and return which.

    A line equal to the one before it is left out.
    """
    drawn: dict[str, Series] = {}
    for field, dash in lines:
        values = series.get(field, {})
        if not values or values in drawn.values():
            continue
        drawn[field] = values
        epochs = sorted(values)
        marker = "o" if len(epochs) == 1 else ""
        heights = [values[epoch] for epoch in epochs]
        shape = "steps-post" if field in STEPS else "default"
        if field in STEPS:  # the last epoch has a width, too
            epochs, heights = [*epochs, epochs[-1] + 1], [*heights, heights[-1]]
        axes.plot(epochs, heights, dash, color=colour, marker=marker, drawstyle=shape)
    return [(field, dash) for field, dash in lines if field in drawn]


def _name_lines(axes: Axes, drawn: Mapping[str, LineStyle]) -> None:
    """Add a legend of a panel's line styles, where there are several."""
    if len(drawn) > 1:
        handles = [Line2D([], [], color=MUTED) for _ in drawn]
        for handle, dash in zip(handles, drawn.values(), strict=True):
            handle.set_linestyle(dash)
        rising = "test_acc1" in drawn
        corner: Literal["lower right", "upper right"] = "lower right" if rising else "upper right"
        axes.legend(handles, [LINES[field] for field in drawn], loc=corner, handlelength=1.6)


def _name_runs(figure: Figure, names: Sequence[str], colours: Sequence[str]) -> None:
    """Add a legend of the runs' colours below the panels."""
    handles = [Line2D([], [], color=colour) for colour in colours]
    columns = max(1, min(len(names), WIDEST // max(map(len, names))))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


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
