"""The sheet that figures are drawn on: style, caption, labels at line ends, files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import TextToPath

from illama_eval.render.palette import AXIS, HAIRLINE, MUTED, PAPER, TEXT
from illama_eval.render.text import plain

WIDTH = 7.0
"""Width of a full sheet in inches: the text width of a page."""
SMALL, NORMAL = 8.0, 9.0
"""Font sizes in points; nothing is smaller."""
LINE = 1.35
"""Height of a line of text, in font sizes."""
MARGIN = 0.12
"""Inches at every edge of a sheet."""
POINTS = 72.0
"""Points per inch."""
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
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
    lines = wrap(caption, SMALL, (width - 2 * MARGIN) * POINTS)
    below = (len(lines) * SMALL + NORMAL) * LINE / POINTS + 2 * MARGIN
    total = height + below
    figure = Figure(figsize=(width, total))
    left, top = MARGIN / width, (below - MARGIN) / total
    figure.text(left, top, title, va="top", weight="bold", gid="title")
    figure.text(left, top - NORMAL * LINE / POINTS / total, "\n".join(lines), va="top", size=SMALL,
                color=MUTED, linespacing=LINE / 1.2, gid="caption")  # fmt: skip
    return Drawing(name=name, title=title, caption=caption, figure=figure)


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
        axes.text(1.01, place, drawable(text), color=colour, size=SMALL, va="center_baseline",
                  transform=axes.transAxes)  # fmt: skip


def label_width(labels: Iterable[str], size: float = SMALL) -> float:
    """Return how many inches the longest label takes, with a margin."""
    widths = [text_width(drawable(label), size) for label in labels]
    return max(widths, default=0.0) / POINTS + MARGIN


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return ascending places moved as little as needed to be `gap` apart, kept within 0 to 1."""
    groups: list[tuple[float, int]] = []
    for place in places:
        groups.append((place, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * _half(groups):
            (upper, more), (lower, few) = groups.pop(), groups.pop()
            groups.append(((upper * more + lower * few) / (more + few), more + few))
    moved: list[float] = []
    for middle, count in groups:
        reach = gap * (count - 1) / 2
        centre = min(max(middle, reach), max(1 - reach, reach))
        moved += [centre - reach + gap * number for number in range(count)]
    return moved


def _half(groups: Sequence[tuple[float, int]]) -> float:
    return (groups[-1][1] + groups[-2][1]) / 2


def drawable(text: str, longest: int | None = None) -> str:
    """Return the text with a replacement character for each one that the font lacks."""
    known = _characters()
    return "".join(
        letter if ord(letter) in known else "\N{REPLACEMENT CHARACTER}"
        for letter in plain(text, longest)
    )


def wrap(text: str, size: float, width: float) -> list[str]:
    """Return the text in lines of at most `width` points; words too long for one are cut."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines += _pieces(word, size, width)
    return [line for line in lines if line]


def _pieces(word: str, size: float, width: float) -> list[str]:
    pieces = [""]
    for letter in word:
        if text_width(pieces[-1] + letter, size) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def text_width(text: str, size: float) -> float:
    """Return the width of the text in points."""
    font = FontProperties(family="DejaVu Sans", size=size)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width)


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
