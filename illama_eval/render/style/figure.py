"""How figures are set: for the page or for a paper, of which width and with which font size.

Figures are laid out in inches of a sheet whose font has `NORMAL` points; another font size scales
the whole layout, so that everything keeps its room.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from matplotlib import rcParams
from matplotlib import style as matplotlib_style

from illama.figure_style import FONT_SIZE, PAPER, SETTINGS, TEXT
from illama_eval.render.style.fonts import FAMILY

Purpose: TypeAlias = Literal["page", "paper"]

NORMAL = FONT_SIZE
"""Font size of the layout in points; texts of size `medium`."""
SMALL = 0.833 * NORMAL
"""Texts of size `small`, in points of the layout; nothing is smaller."""
LINE = 1.35
"""Height of a line of text, in font sizes."""
NARROWEST = 3.8
"""Inches of layout below which figures have no room for their labels."""
_SHARED = {
    **SETTINGS,
    "font.family": "sans-serif",
    "font.sans-serif": [FAMILY, "Verdana", "sans-serif"],
    "axes.labelsize": "medium",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}
_OF_PAPERS = {
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "lines.linewidth": 1.2,
    "savefig.dpi": 400,
}
"""Black axes and thinner lines, in print resolution."""
_SIZES: dict[str, tuple[float, float]] = {"page": (7.0, NORMAL), "paper": (6.75, 8.0)}
"""Width in inches and font size in points of each purpose."""


@dataclass(frozen=True)
class FigureStyle:
    """What figures are for, their full width in inches and their font size in points.

    Raises:
        ValueError: no such purpose, a font size that cannot be read, or too narrow for the font.
    """

    purpose: Purpose = "page"
    width: float | None = None
    """Default: 7 in for the page; 6.75 for a paper, whose columns often have 3.25."""
    font_size: float | None = None
    """Default: 9.6 pt for the page, 8 for a paper."""

    def __post_init__(self) -> None:
        if self.purpose not in _SIZES:
            raise ValueError(f"style {self.purpose!r}: it is one of {', '.join(_SIZES)}")
        if not 4 <= self.points <= 24:  # noqa: PLR2004 - points
            raise ValueError(f"font size {self.points:g}: it is from 4 to 24 points")
        least = NARROWEST * self.points / NORMAL
        if not least <= self.inches <= 10 * least:
            raise ValueError(
                f"width {self.inches:g}: with a font of {self.points:g} points it is from "
                f"{least:.2f} to {10 * least:.0f} inches"
            )

    @property
    def inches(self) -> float:
        """Width of a full sheet."""
        return _SIZES[self.purpose][0] if self.width is None else self.width

    @property
    def points(self) -> float:
        """Font size."""
        return _SIZES[self.purpose][1] if self.font_size is None else self.font_size

    def settings(self) -> dict[str, Any]:
        """Return matplotlib's parameters."""
        sizes = {"font.size": self.points, "figure.figsize": (self.inches, self.inches)}
        return {**_SHARED, **(_OF_PAPERS if self.purpose == "paper" else {}), **sizes}


PAGE = FigureStyle()


def drawing_style(style: FigureStyle = PAGE) -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and saved; it ignores the user's settings."""
    return matplotlib_style.context(["default", style.settings()])


def scale() -> float:
    """Return inches on the sheet per inch of layout, in the present style."""
    return float(rcParams["font.size"]) / NORMAL


def sheet_width() -> float:
    """Return the full width of a sheet in inches of layout, in the present style."""
    return float(rcParams["figure.figsize"][0]) / scale()
