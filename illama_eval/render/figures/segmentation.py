"""Figures of segmentation: IoU by class, and sample images with true and predicted classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from illama.figure_style import HAIRLINE, MUTED, TEXT
from illama_eval.render.figures.canvas import MARGIN, Drawing, sheet
from illama_eval.render.figures.labels import add_legend, label_width, legend_height
from illama_eval.render.format.numbers import show_row
from illama_eval.render.samples import Segments
from illama_eval.render.select import headline, images_of, rows_at, subjects_of
from illama_eval.render.style.figure import NORMAL, sheet_width
from illama_eval.render.style.fonts import drawable
from illama_eval.render.style.palette import RUNS
from illama_eval.results import Row, Run, nested_get

_STUDY = "segmentation"
_WAYS = {
    "whole": "whole image",
    "slide": "sliding windows",
    "multiscale": "several scales, flipped",
}
_ROW = 0.22
_NO_CLASS = 255
"""The label of pixels that have none."""
_PARTS, _LEAST, _BETWEEN = 0.8, 0.5, 0.06
"""Inches for the names of rows, least side of a picture, and inches between two."""
_PARTS_SHOWN = (("image", "image"), ("mask", "truth"), ("predicted", "found"))
_MOST = 30
"""Classes that are drawn: the best and the worst, if there are more."""


def draw_segmentation(run: Run) -> Iterator[Drawing]:
    """Yield a row per class with a point for each way, for every subject."""
    for number, subject in enumerate(subjects_of(run), start=1):
        found = {way: _by_class(run, subject, way) for way in _WAYS}
        ways = [way for way, rows in found.items() if rows]
        if ways:
            yield _draw(run, subject, found, ways, f"-{number}" if number > 1 else "")


def _by_class(run: Run, subject: str, way: str) -> dict[str, Row]:
    rows = rows_at(run, _STUDY, "iou", subject, ("class",), mode=way)
    return {str(row.at["class"]): row for row in rows if row.value is not None}


def _draw(
    run: Run, subject: str, found: Mapping[str, Mapping[str, Row]], ways: Sequence[str], suffix: str
) -> Drawing:
    last = found[ways[-1]]
    ordered = sorted(last, key=lambda name: -(last[name].value or 0.0))
    shown = ordered if len(ordered) <= _MOST else [*ordered[: _MOST // 2], *ordered[-_MOST // 2 :]]
    names = [_WAYS[way] for way in ways]
    above, height = legend_height(names) + 0.25, _ROW * len(shown)
    drawing = sheet(
        f"segmentation_by_class{suffix}",
        title="Intersection over union by class",
        caption=_caption(run, subject, ways, len(shown), len(ordered)),
        height=above + height + 0.5,
    )
    left = label_width((drawable(name, 24) for name in shown), NORMAL) + MARGIN
    axes = drawing.axes(left, above, drawing.size[0] - left - 0.8, height)
    axes.set(xlim=(0, 100), ylim=(len(shown) - 0.5, -0.5), xlabel="IoU (%)")
    axes.set_yticks(range(len(shown)), [drawable(name, 24) for name in shown])
    axes.tick_params(axis="y", length=0, labelcolor=TEXT, labelsize="medium")
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    for place, way in enumerate(ways):
        _mark(axes, [found[way].get(name) for name in shown], place, len(ways))
    _write_shares(axes, run, subject, shown)
    looks = [Line2D([], [], color=c, marker=m, linestyle="", markersize=4) for c, m in RUNS]
    add_legend(drawing, looks[: len(ways)], names)
    return drawing


def _mark(axes: Axes, rows: Sequence[Row | None], place: int, ways: int) -> None:
    """Draw one way's points and intervals, a little below the way before."""
    colour, marker = RUNS[place]
    for number, row in enumerate(rows):
        axes.axhline(number, color=HAIRLINE, linewidth=0.5, zorder=0)
        if row is None or row.value is None:
            continue
        y = number + (place - (ways - 1) / 2) * 0.2
        if row.low is not None and row.high is not None:
            axes.plot(
                [100 * row.low, 100 * row.high],
                [y, y],
                color=colour,
                alpha=0.5,
                linewidth=1.4,
                solid_capstyle="butt",
            )
        axes.plot(100 * row.value, y, marker, color=colour, markersize=4, clip_on=False, zorder=3)


def _write_shares(axes: Axes, run: Run, subject: str, shown: Sequence[str]) -> None:
    """Write at the right how many of the pixels have each class."""
    rows = rows_at(run, _STUDY, "pixels", subject, ("class",))
    shares = {str(row.at["class"]): row.value for row in rows}
    side = axes.get_yaxis_transform()
    axes.text(1.03, -0.7, "pixels", transform=side, size="small", color=MUTED, va="bottom")
    for number, name in enumerate(shown):
        share = shares.get(name)
        text = "" if share is None else f"{100 * share:.1f} %"
        axes.text(1.03, number, text, transform=side, size="small", color=MUTED, va="center")


def _caption(run: Run, subject: str, ways: Sequence[str], shown: int, classes: int) -> str:
    parts = []
    for way in ways:
        row = headline(run, _STUDY, f"miou_{way}", subject)
        if row is not None and row.value is not None:
            parts.append(f"{_WAYS[way]} {show_row(row).full}")
    part = "" if shown == classes else f" The {shown // 2} best and worst of {classes} are shown."
    return (
        f"mIoU of {drawable(subject, 28)} on {images_of(run, _STUDY)}: {', '.join(parts)}. Points: "
        "IoU from the pixels of all images; bars: 95 % intervals; at the right, the "
        f"share of the pixels that have the class.{part}"
    )


def draw_segments(run: Run, segments: Segments) -> Iterator[Drawing]:
    """Yield a picture of images, their true classes, and those of the first subject."""
    most = int((sheet_width() - _PARTS) / (_LEAST + _BETWEEN))
    shown = segments[:most]
    side = min(1.1, (sheet_width() - _PARTS) / len(shown) - _BETWEEN)
    keys = _classes(run, shown)
    above = legend_height(list(keys)) + 0.1
    drawing = sheet(
        "segmentation_samples",
        title="What is segmented",
        caption=f"{len(shown)} images of smallest hash: as they are, with their true classes, "
        f"and with those that {drawable(subjects_of(run)[0], 28)} finds at several scales. "
        "White pixels have no class.",
        height=above + 3 * (side + _BETWEEN) + 0.1,
    )
    for row, (part, name) in enumerate(_PARTS_SHOWN):
        y = above + row * (side + _BETWEEN)
        for column, sample in enumerate(shown):
            axes = drawing.axes(_PARTS + column * (side + _BETWEEN), y, side, side)
            seen = sample[part] if part == "image" else _coloured(sample[part])
            axes.imshow(seen, interpolation="nearest")
            axes.axis("off")
        label = drawing.axes(MARGIN, y, 0.6, side)
        label.text(0, 0.5, name, size="medium", va="center", color=TEXT)
        label.axis("off")
    add_legend(drawing, list(keys.values()), list(keys))
    yield drawing


def _classes(run: Run, shown: Segments) -> dict[str, Patch]:
    """Return the classes that are in the pictures, each as a legend shows it."""
    names = nested_get(run.header, "identity", "studies", _STUDY, "names") or []
    found = sorted({int(n) for each in shown for n in np.unique([each["mask"], each["predicted"]])})
    keys = {}
    for number in found:
        if number != _NO_CLASS:
            name = names[number] if number < len(names) else f"class {number}"
            colour = _coloured(np.array([[number]]))[0, 0] / 255
            keys[drawable(name, 24)] = Patch(facecolor=tuple(colour), edgecolor="none")
    return keys


def _coloured(classes: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the classes of pixels [row, column] as colours [row, column, 3]."""
    table = (255 * np.asarray(mpl.colormaps["tab20"].colors)).astype(np.uint8)  # type: ignore[attr-defined]  # a listed map
    colours = table[(classes.astype(np.int64) * 2 + classes // 10) % len(table)]
    colours[classes == _NO_CLASS] = 255
    return np.asarray(colours, np.uint8)
