"""The sheet that every figure is drawn on: style, title, caption, legend, labels, files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from illama_eval.render.style.fonts import FAMILY, POINTS, drawable, text_width, wrap
from illama_eval.render.style.palette import AXIS, HAIRLINE, MUTED, PAPER, TEXT

WIDTH = 7.0
"""Width of a full sheet in inches: the text width of a page."""
SMALL, NORMAL = 8.0, 9.0
"""Font sizes in points; nothing is smaller."""
LINE = 1.35
"""Height of a line of text, in font sizes."""
MARGIN = 0.12
"""Inches at every edge of a sheet."""
BAND = 0.14
"""Opacity of the band from the lowest to the highest head."""
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": [FAMILY, "Verdana", "sans-serif"],
    "font.size": NORMAL,
    "text.parse_math": False,  # a file may be called $\frac{$
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.labelsize": NORMAL,
    "axes.titlesize": NORMAL,
    "axes.titlelocation": "left",
    "axes.edgecolor": AXIS,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.5,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "illama",
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure, with the words that go below it."""

    name: str
    """Stem of its files."""
    title: str
    caption: str
    height: float
    """Inches from the upper edge to the title, which is below the drawing."""
    figure: Figure

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return new axes, placed in inches from the upper left corner of the sheet."""
        across, down = self.figure.get_size_inches()
        box = (x / across, 1 - (y + height) / down, width / across, height / down)
        return self.figure.add_axes(box)


def drawing_style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and saved; it ignores the user's settings."""
    return style.context(["default", _STYLE])


def sheet(name: str, *, title: str, caption: str, height: float, width: float = WIDTH) -> Drawing:
    """Return an empty figure of this size in inches, its title and caption added below."""
    title, caption = drawable(title), drawable(caption).replace(" %", "\N{NO-BREAK SPACE}%")
    lines = wrap(caption, SMALL, width - 2 * MARGIN)
    below = (len(lines) * SMALL + NORMAL) * LINE / POINTS + 2 * MARGIN
    total = height + below
    figure = Figure(figsize=(width, total))
    left, top = MARGIN / width, (below - MARGIN) / total
    figure.text(left, top, title, va="top", weight="bold", gid="title")
    figure.text(
        left,
        top - NORMAL * LINE / POINTS / total,
        "\n".join(lines),
        va="top",
        size=SMALL,
        color=MUTED,
        linespacing=LINE / 1.2,
        gid="caption",
    )
    return Drawing(name=name, title=title, caption=caption, height=height, figure=figure)


def save(drawing: Drawing, directory: Path) -> list[Path]:
    """Write the drawing as PNG and SVG, without dates; return the paths."""
    about = {"Title": drawing.title, "Description": drawing.caption}
    png, svg = (directory / f"{drawing.name}.{suffix}" for suffix in ("png", "svg"))
    drawing.figure.savefig(png, metadata={"Software": None, **about})
    drawing.figure.savefig(svg, metadata={"Date": None, "Creator": None, **about})
    return [png, svg]


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], height: float) -> None:
    """Write (y, text, colour) at the right of the axes, moved apart where they would touch.

    y is in data units of a linear axis; `height` is that of the axes in inches.
    """
    low, high = axes.get_ylim()
    ordered = sorted(labels, key=lambda label: (label[0] - low) / (high - low))
    gap = SMALL * LINE / POINTS / height
    places = spread([(y - low) / (high - low) for y, _, _ in ordered], gap)
    for place, (_, text, colour) in zip(places, ordered, strict=True):
        axes.text(
            1.01,
            place,
            text,
            color=colour,
            size=SMALL,
            va="center_baseline",
            transform=axes.transAxes,
        )


def label_width(labels: Iterable[str], size: float = SMALL) -> float:
    """Return how many inches the longest label takes, with a margin."""
    return max((text_width(label, size) for label in labels), default=0.0) + MARGIN


def legend_height(names: Sequence[str]) -> float:
    """Return how many inches `add_legend` takes from the top of a sheet."""
    return MARGIN + 0.19 * -(-len(names) // _legend_columns(names))


def add_legend(drawing: Drawing, lines: Sequence[Line2D], names: Sequence[str]) -> None:
    """Name the lines along the top of the sheet, in as many columns as fit."""
    drawing.figure.legend(
        lines,
        names,
        fontsize=SMALL,
        ncols=_legend_columns(names),
        loc="upper left",
        frameon=False,
        handlelength=2.2,
        columnspacing=1.5,
        borderaxespad=0.3,
    )


def _legend_columns(names: Sequence[str]) -> int:
    return max(1, int((WIDTH - MARGIN) / (label_width(names) + 0.45)))


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
