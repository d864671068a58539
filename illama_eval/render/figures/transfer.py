"""Figures of transfer: accuracy by images per class, by C, by k and by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from illama_eval.render.figures.canvas import BAND, Drawing
from illama_eval.render.figures.labels import NamedLine, drawn_once, name_lines, sheet_of_lines
from illama_eval.render.format.numbers import show_images, show_number, show_row
from illama_eval.render.select import Array, headline, rows_at
from illama_eval.render.style.palette import Identity, looks_of
from illama_eval.results import Row, Run

STUDY = "transfer"
_HIGH = 2.6
"""Height of the axes in inches."""
_INTERVALS = 12
"""Points up to which each shows its interval."""
_TICKS = 8
"""Values of x up to which each has its own tick."""
_FEWEST = 2
"""Points of which a line can be drawn."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One model's accuracy over something, in ascending order."""

    look: Identity
    subject: str
    points: Sequence[tuple[float, Row]]
    """x, and the row of the value."""

    @property
    def x(self) -> list[float]:
        """The points' x."""
        return [x for x, _ in self.points]

    @property
    def percent(self) -> list[float]:
        """The points' values in percent."""
        return [100 * (row.value or 0.0) for _, row in self.points]

    @property
    def numbers(self) -> list[Array]:
        """All that is drawn of the line."""
        ends = [(row.low, row.high) for _, row in self.points]
        return [np.array(self.x), np.array(self.percent), np.array(ends, float)]


def draw_transfer(run: Run) -> Iterator[Drawing]:
    """Yield accuracy over images per class, then over C, k or epochs: whatever there is."""
    for name, title, metric, key, label in (
        (
            "few_shot",
            "Accuracy with few training images",
            "top1",
            "shots",
            "training images per class",
        ),
        ("by_c", "How the penalty was chosen", "held_out_top1", "C", "C (large: weak penalty)"),
        ("by_k", "Accuracy by the number of neighbours", "top1", "k", "neighbours k"),
    ):
        lines = _lines(run, metric, key)
        if lines:
            caption, banded = _CAPTIONS[name](run, lines), run if key == "shots" else None
            drawing = _draw(f"{STUDY}_{name}", title, caption, lines, label, banded)
            if key == "C":
                _mark_chosen(drawing.figure.axes[0], run, lines)
            yield drawing
    yield from _draw_epochs(run)


def _lines(run: Run, metric: str, key: str) -> list[Line]:
    """Return a line for each model that has two points or more."""
    lines = []
    for subject, look in looks_of(run):
        rows = [
            row for row in rows_at(run, STUDY, metric, subject, (key,)) if row.value is not None
        ]
        points = sorted(((_x_of(run, row, key), row) for row in rows), key=lambda point: point[0])
        if len(points) >= _FEWEST:
            lines.append(Line(look=look, subject=subject, points=points))
    return lines


def _x_of(run: Run, row: Row, key: str) -> float:
    """Return the x of a row; all training images are their mean number per class."""
    if row.at[key] != "all":
        return float(row.at[key])
    curve = next(
        each
        for each in run.curves
        if (each.study, each.subject, each.at.get("over")) == (STUDY, row.subject, key)
    )
    return max(curve.x)


def _draw(
    name: str, title: str, caption: str, lines: Sequence[Line], label: str, banded: Run | None
) -> Drawing:
    """Return the lines on a logarithmic scale; with a run, the interval over draws as bands."""
    once = drawn_once((line.look.label, line.numbers) for line in lines)
    shown, names = [lines[number] for number in once], list(once.values())
    drawing, axes = sheet_of_lines(name, title, caption, names, _HIGH)
    axes.set_xscale("log")
    for line in shown:
        if banded is not None:
            _draw_band(axes, banded, line)
        _draw_line(axes, line)
    _label_axes(axes, lines, label)
    ends = [
        _named(line.look, name, line.percent[-1]) for line, name in zip(shown, names, strict=True)
    ]
    name_lines(drawing, axes, ends)
    return drawing


def _named(look: Identity, name: str, y: float) -> NamedLine:
    return NamedLine(y=y, name=name, colour=look.colour, marker=look.marker)


def _mark_chosen(axes: Axes, run: Run, lines: Sequence[Line]) -> None:
    """Ring the chosen C of each line."""
    axes.set_ylabel("held-out top-1 accuracy (%)")
    for line in lines:
        chosen = headline(run, STUDY, "chosen_c", line.subject)
        best = headline(run, STUDY, "held_out_top1", line.subject)
        if chosen and best and chosen.value is not None and best.value is not None:
            axes.plot(
                chosen.value,
                100 * best.value,
                "o",
                color=line.look.colour,
                markersize=9,
                markerfacecolor="none",
                markeredgewidth=1.4,
            )


def _draw_line(axes: Axes, line: Line) -> None:
    """Draw the points, with their intervals where there is room."""
    look, many = line.look, len(line.points) > _INTERVALS
    axes.plot(
        line.x, line.percent, color=look.colour, marker=look.marker, markersize=2.5 if many else 4.5
    )
    known = [(x, row) for x, row in line.points if row.low is not None and row.high is not None]
    low, high = (
        [100 * (end or 0.0) for end in ends]
        for ends in ([row.low for _, row in known], [row.high for _, row in known])
    )
    if many:
        axes.fill_between(
            [x for x, _ in known], low, high, color=look.colour, alpha=BAND, linewidth=0
        )
    else:
        axes.vlines([x for x, _ in known], low, high, color=look.colour, linewidth=0.9)


def _draw_band(axes: Axes, run: Run, line: Line) -> None:
    """Shade the interval over the draws; where there is one draw, none."""
    found = [(x, _over_draws(run, line.subject, row)) for x, row in line.points]
    shown = [(x, ends) for x, ends in found if ends is not None]
    if shown:
        axes.fill_between(
            [x for x, _ in shown],
            [100 * ends[0] for _, ends in shown],
            [100 * ends[1] for _, ends in shown],
            color=line.look.colour,
            alpha=BAND,
            linewidth=0,
        )


def _over_draws(run: Run, subject: str, row: Row) -> tuple[float, float] | None:
    """Return the interval over draws at the row's number of images; of all images, the value."""
    for found in rows_at(run, STUDY, "top1_over_draws", subject, ("shots",)):
        same = found.at["shots"] == row.at["shots"]
        if same and found.low is not None and found.high is not None:
            return found.low, found.high
    return None if row.value is None else (row.value, row.value)


def _label_axes(axes: Axes, lines: Sequence[Line], label: str) -> None:
    places = sorted({x for line in lines for x in line.x})
    few = len(places) <= _TICKS
    if few:
        axes.set_xticks(places)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x, few=few)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=label, ylabel="top-1 accuracy (%)")


def _tick(x: float, *, few: bool) -> str:
    """Return a number of images, or a power of ten."""
    return show_number(round(x), whole=True) if few else f"{x:g}"


def _few_shot_caption(run: Run, lines: Sequence[Line]) -> str:
    parts = [
        f"{line.look.label}: {_shown(line, 0)} with {_images(line, 0)} per class, "
        f"{_shown(line, -1)} with {_images(line, -1)}."
        for line in lines
    ]
    return (
        f"{' '.join(parts)} On {images_of_top1(run)} test images. Points: mean over the draws of "
        "so few images; bands: 95 % interval of that mean over the draws (Student's t); bars: 95 % "
        "interval over the test images."
    )


def _grid_caption(run: Run, lines: Sequence[Line]) -> str:
    parts = []
    for line in lines:
        chosen = headline(run, STUDY, "chosen_c", line.subject)
        best = headline(run, STUDY, "held_out_top1", line.subject)
        if chosen and best and chosen.value is not None:
            parts.append(f"{line.look.label}: C = {chosen.value:.4g}, {show_row(best).full}.")
    held = lines[0].points[0][1].images
    return (
        f"{' '.join(parts)} Accuracy on {held:,} training images that were held out, "
        "stratified by class; the test images took no part. Rings: chosen. Bars and bands: 95 % "
        "interval."
    )


def _neighbour_caption(run: Run, lines: Sequence[Line]) -> str:
    chosen = headline(run, STUDY, "neighbours", lines[0].subject)
    k = int(chosen.value) if chosen and chosen.value else 0
    parts = []
    for line in lines:
        best = max(line.points, key=lambda point: point[1].value or 0.0)
        at = next((row for x, row in line.points if x == k), best[1])
        parts.append(f"{line.look.label}: {show_row(at).full} with k = {k}.")
    return (
        f"{' '.join(parts)} k was given beforehand, not chosen by this figure. On "
        f"{images_of_top1(run)} test images; bars: 95 % interval."
    )


_CAPTIONS = {"few_shot": _few_shot_caption, "by_c": _grid_caption, "by_k": _neighbour_caption}


def _draw_epochs(run: Run) -> Iterator[Drawing]:
    """Yield the accuracy on the test images over the epochs of a fine-tuning."""
    found = {
        curve.subject: curve
        for curve in run.curves
        if curve.study == STUDY and curve.at.get("over") == "epoch" and len(curve.x) >= _FEWEST
    }
    looks = [
        (look, found[name])
        for name, look in looks_of(run)
        if name in found and not name.endswith("-best")
    ]
    if not looks:
        return
    parts = [
        f"{look.label}: {100 * curve.y[-1]:.2f} % after the last of {curve.x[-1]:.0f} epochs, at "
        f"most {100 * max(curve.y):.2f} % (epoch {curve.x[int(np.argmax(curve.y))]:.0f})."
        for look, curve in looks
    ]
    once = drawn_once((look.label, [np.array(curve.x), np.array(curve.y)]) for look, curve in looks)
    shown, names = [looks[number] for number in once], list(once.values())
    drawing, axes = sheet_of_lines(
        f"{STUDY}_by_epoch",
        "Accuracy while all weights are trained",
        f"{' '.join(parts)} On all test images; the last epoch is the result, since the "
        "best one is chosen by the images that it is measured on.",
        names,
        _HIGH,
    )
    for look, curve in shown:
        axes.plot(
            curve.x, [100 * y for y in curve.y], color=look.colour, marker=look.marker, markersize=3
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="top-1 accuracy (%)")
    ends = [
        _named(look, name, 100 * curve.y[-1])
        for (look, curve), name in zip(shown, names, strict=True)
    ]
    name_lines(drawing, axes, ends)
    yield drawing


def images_of_top1(run: Run) -> str:
    """Return the number of test images behind the accuracies."""
    rows = [row for row in run.rows if (row.study, row.metric) == (STUDY, "top1")]
    return f"{max((row.images for row in rows), default=0):,}"


def _shown(line: Line, place: int) -> str:
    return show_row(line.points[place][1]).full


def _images(line: Line, place: int) -> str:
    return show_images(round(line.points[place][0]))
