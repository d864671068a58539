"""The sheet that a figure is drawn on, its axes, and its files.

All inches are those of the layout (`render.style.figure`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from illama_eval.render.style.figure import Purpose, scale, sheet_width
from illama_eval.render.style.fonts import drawable

MARGIN = 0.12
"""Inches at every edge of a sheet."""
BAND = 0.14
"""Opacity of the band from the lowest to the highest head."""
ENDINGS: Mapping[Purpose, tuple[str, ...]] = {
    "page": ("png", "svg"),
    "paper": ("png", "svg", "pdf"),
}
"""Endings of the files of a figure, by what it is for."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure, with the words that go below it, which are not in the figure."""

    name: str
    """Stem of its files."""
    title: str
    caption: str
    size: tuple[float, float]
    """Width and height in inches of layout."""
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """An SVG document without dates, in the style that holds; drawn once for file and page."""
        about = {"Title": self.title, "Description": self.caption, "Date": None, "Creator": None}
        stream = io.StringIO()
        self.figure.savefig(stream, format="svg", metadata=about)
        return stream.getvalue()

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return new axes, placed in inches from the upper left corner of the sheet."""
        across, down = self.size
        box = (x / across, 1 - (y + height) / down, width / across, height / down)
        return self.figure.add_axes(box)


def sheet(
    name: str, *, title: str, caption: str, height: float, width: float | None = None
) -> Drawing:
    """Return an empty figure of this size, by default as wide as the style lets it be."""
    size = (sheet_width() if width is None else width, height)
    return Drawing(
        name=name,
        title=drawable(title),
        caption=drawable(caption).replace(" %", "\N{NO-BREAK SPACE}%"),
        size=size,
        figure=Figure(figsize=(size[0] * scale(), size[1] * scale())),
    )


def grid_of(count: int, least: float, most: int) -> tuple[int, int]:
    """Return in how many columns and rows panels are, each at least so many inches wide."""
    columns = min(count, most, max(1, int(sheet_width() / least)))
    return columns, -(-count // columns)


def places_of(count: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield row and column of each panel."""
    for number in range(count):
        yield divmod(number, columns)


def save(
    drawing: Drawing, directory: Path, endings: tuple[str, ...] = ENDINGS["page"]
) -> list[Path]:
    """Write the drawing in these formats, without dates, and its caption as text; return paths."""
    title = {"Title": drawing.title}
    metadata = {
        "png": {"Software": None, **title, "Description": drawing.caption},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, **title},
    }
    paths = [directory / f"{drawing.name}.{ending}" for ending in endings]
    for path, ending in zip(paths, endings, strict=True):
        if ending == "svg":
            path.write_text(drawing.svg, encoding="utf-8", newline="")
        else:
            drawing.figure.savefig(path, metadata=metadata[ending])
    words = directory / f"{drawing.name}.txt"
    words.write_text(f"{drawing.title}. {drawing.caption}\n", encoding="utf-8", newline="")
    return [*paths, words]
