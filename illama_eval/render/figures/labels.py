"""Names of lines: at their ends, or in a legend on top; ticks of layers; labels kept apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from illama.figure_style import TEXT
from illama_eval.render.figures.canvas import MARGIN, Drawing, sheet
from illama_eval.render.select import Array
from illama_eval.render.style.figure import LINE, SMALL, sheet_width
from illama_eval.render.style.fonts import POINTS, fit, text_width

_LEFT, _BELOW = 0.62, 0.5
"""Inches for the vertical axis and below the horizontal one."""
_KEY = 0.45
"""Inches that a line takes in a legend, with the space to its name."""
_END_KEY = 0.26
"""Inches that a line's look takes between its end and its name, with the space to both."""
_MOST_OF_WIDTH = 0.36
"""Share of a sheet that names beside the lines may take; longer ones are on top."""


@dataclass(frozen=True, kw_only=True)
class NamedLine:
    """A line's end in data units, its name and its look."""

    y: float
    name: str
    colour: str
    marker: str = ""
    dash: Any = "-"

    def handle(self) -> Line2D:
        """Return the line as a legend shows it."""
        return Line2D(
            [], [], color=self.colour, marker=self.marker, linestyle=self.dash, markersize=4
        )


def sheet_of_lines(
    name: str, title: str, caption: str, names: Sequence[str], high: float
) -> tuple[Drawing, Axes]:
    """Return a sheet with one pair of axes, `high` inches, and room for the names of its lines."""
    beside = _beside(names)
    above = MARGIN if beside else legend_height(names) + MARGIN
    drawing = sheet(name, title=title, caption=caption, height=above + high + _BELOW)
    right = beside or MARGIN
    return drawing, drawing.axes(_LEFT, above, drawing.size[0] - _LEFT - right, high)


def name_lines(drawing: Drawing, axes: Axes, lines: Sequence[NamedLine]) -> None:
    """Write the names of the lines at their ends, or on top where they are long."""
    names = [line.name for line in lines]
    if not _beside(names):
        add_legend(drawing, [line.handle() for line in lines], names)
        return
    box = axes.get_position()
    label_ends(axes, lines, box.width * drawing.size[0], box.height * drawing.size[1])


def _beside(names: Sequence[str]) -> float:
    """Return how many inches the names take at the right; 0 if they are too long for it."""
    width = _END_KEY + label_width(names)
    return width if width <= _MOST_OF_WIDTH * sheet_width() else 0.0


def label_ends(axes: Axes, lines: Sequence[NamedLine], width: float, height: float) -> None:
    """Write the names of lines at the right of the axes, moved apart where they would touch.

    Where names are moved away from their lines, the looks of the lines stand before them. The
    vertical axis is linear; `width` and `height` are those of the axes in inches.
    """
    low, high = axes.get_ylim()
    ordered = sorted(lines, key=lambda line: (line.y - low) / (high - low))
    gap = SMALL * LINE / POINTS / height
    wanted = [(line.y - low) / (high - low) for line in ordered]
    places = spread(wanted, gap)
    moved = any(abs(place - end) > gap / 4 for place, end in zip(places, wanted, strict=True))
    left, right, text = (1 + share * _END_KEY / width for share in (0.2, 0.85, 1.0))
    for place, line in zip(places, ordered, strict=True):
        if moved:
            _draw_key(axes, line, (left, right), place)
        axes.text(
            text if moved else 1.01,
            place,
            line.name,
            color=TEXT,
            size="small",
            va="center_baseline",
            transform=axes.transAxes,
        )


def _draw_key(axes: Axes, line: NamedLine, ends: tuple[float, float], place: float) -> None:
    """Draw a line's look between two ends, all in shares of the axes."""
    key = line.handle()
    key.set(
        data=([ends[0], sum(ends) / 2, ends[1]], [place] * 3),
        markevery=[1],
        transform=axes.transAxes,
        clip_on=False,
    )
    axes.add_line(key)


def label_width(labels: Iterable[str], size: float = SMALL) -> float:
    """Return how many inches the longest label takes, with a margin."""
    return max((text_width(label, size) for label in labels), default=0.0) + MARGIN


def legend_height(names: Sequence[str], width: float | None = None) -> float:
    """Return how many inches `add_legend` takes from the top of a sheet, of this or full width."""
    return MARGIN + 0.19 * -(-len(names) // _legend_columns(names, width or sheet_width()))


def add_legend(drawing: Drawing, lines: Sequence[Artist], names: Sequence[str]) -> None:
    """Name the lines along the top of the sheet, in as many columns as fit; cut what is longer."""
    widest = drawing.size[0] - MARGIN - _KEY
    drawing.figure.legend(
        lines,
        [fit(name, SMALL, widest) for name in names],
        fontsize="small",
        ncols=_legend_columns(names, drawing.size[0]),
        loc="upper left",
        frameon=False,
        handlelength=2.2,
        columnspacing=1.5,
        borderaxespad=0.3,
    )


def _legend_columns(names: Sequence[str], width: float) -> int:
    return max(1, int((width - MARGIN) / (label_width(names) + _KEY)))


def label_layers(axes: Axes, layers: int, most: int = 12) -> None:
    """Put integer ticks, about `most` of them, below a depth axis from 1."""
    step = -(-layers // most)
    axes.set_xlim(0.7, layers + 0.3)
    axes.set_xticks(
        sorted({1, *range(step, layers + 1, step)} if step > 1 else range(1, layers + 1))
    )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return ascending positions, moved as little as needed to be `gap` apart within 0 to 1."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _touch(groups[-2], groups[-1], gap):
            last = groups.pop()
            groups[-1] += last
    return [
        _centre(group, gap) + gap * (number - (len(group) - 1) / 2)
        for group in groups
        for number in range(len(group))
    ]


def _touch(lower: Sequence[float], upper: Sequence[float], gap: float) -> bool:
    room = gap * (len(lower) + len(upper)) / 2
    return _centre(upper, gap) - _centre(lower, gap) < room


def _centre(group: Sequence[float], gap: float) -> float:
    """Return the middle of a group of labels: their mean, away from the ends."""
    reach = gap * (len(group) - 1) / 2
    return min(max(sum(group) / len(group), reach), max(1 - reach, reach))


def drawn_once(lines: Iterable[tuple[str, Iterable[Array]]]) -> dict[int, str]:
    """Return which lines to draw and under which label: equal lines are one, with all names.

    `lines` are names with all numbers that are drawn of each; NaN equals NaN. The result maps the
    number of a line, from 0, to its label.
    """
    alike: dict[bytes, list[int]] = {}
    names = []
    for number, (name, arrays) in enumerate(lines):
        names.append(name)
        content = b"|".join(np.asarray(each, float).tobytes() for each in arrays)
        alike.setdefault(content, []).append(number)
    return {same[0]: _label_of([names[number] for number in same]) for same in alike.values()}


def _label_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names)} (identical)"
