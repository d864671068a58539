"""Accuracy of several subjects, side by side with their intervals."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes

from illama_eval.render.figures.canvas import (
    MARGIN,
    NORMAL,
    SMALL,
    WIDTH,
    Drawing,
    label_width,
    sheet,
)
from illama_eval.render.format.numbers import show_row
from illama_eval.render.select import headline
from illama_eval.render.style.palette import TEXT, Identity, looks_of
from illama_eval.results import Row, Run

_ROW = 0.34
"""Inches per subject."""


def draw_accuracy(run: Run) -> Iterator[Drawing]:
    """Yield a dot with its interval per subject; nothing for a single subject."""
    found = [(look, headline(run, "accuracy", "top1", name)) for name, look in looks_of(run)]
    shown = [(look, row, row.value) for look, row in found if row and row.value is not None]
    if len(shown) < 2:  # noqa: PLR2004 - one dot shows no more than its number
        return
    best, first, _ = max(shown, key=lambda one: one[2])
    drawing = sheet(
        "accuracy_top1",
        title="Top-1 accuracy",
        caption=f"The highest top-1 accuracy is that of {best.label}, {show_row(first).full}, "
        f"on {first.images:,} images. Bars: 95 % interval of each subject alone; on "
        "equal images the paired difference is surer than two overlapping bars suggest.",
        height=0.6 + _ROW * len(shown),
    )
    names = label_width((look.label for look, _, _ in shown), NORMAL)
    axes = drawing.axes(MARGIN + names, MARGIN, WIDTH - names - 0.8, _ROW * len(shown))
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    for place, (look, row, value) in enumerate(shown):
        _mark(axes, place, look, row, 100 * value)
    axes.set(ylim=(len(shown) - 0.5, -0.5), yticks=range(len(shown)), xlabel="top-1 accuracy (%)")
    axes.set_yticklabels([look.label for look, _, _ in shown], color=TEXT, size=NORMAL)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    yield drawing


def _mark(axes: Axes, place: int, look: Identity, row: Row, percent: float) -> None:
    if row.low is not None and row.high is not None:
        axes.plot([100 * row.low, 100 * row.high], [place, place], color=look.colour, linewidth=2.5)
    axes.plot(percent, place, look.marker, color=look.colour, markersize=6.5)
    axes.text(
        1.02,
        place,
        show_row(row).value,
        transform=axes.get_yaxis_transform(),
        va="center",
        size=SMALL,
    )
