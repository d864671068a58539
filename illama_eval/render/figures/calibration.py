"""Reliability diagrams: accuracy against confidence, and the number of images in each bin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from illama.figure_style import AXIS, MUTED, PAPER, TEXT
from illama_eval.render.figures.canvas import MARGIN, Drawing, grid_of, places_of, sheet
from illama_eval.render.figures.labels import add_legend, legend_height
from illama_eval.render.format.numbers import show_row
from illama_eval.render.format.verdicts import say_verdict
from illama_eval.render.select import headline, headline_value, parameter, rows_at
from illama_eval.render.style.figure import NORMAL, sheet_width
from illama_eval.render.style.fonts import fit
from illama_eval.render.style.palette import Identity, looks_of
from illama_eval.results import Run

_COLUMNS = 2
_SIDE, _LEAST = 3.6, 3.0
"""Largest side of a square, and least width of one with its labels, in inches."""
_AROUND = 0.85
"""Inches beside a square and its neighbour."""
_FEW = 10
"""Images below which a bin is faded: its accuracy says little."""
_FADED = 0.3
"""Opacity of such a bin."""
_COUNTS = 0.27
"""Height of the counts, in sides of the square above them."""
_LOG_FROM = 100
"""Ratio of the largest to the smallest count from which counts are drawn on a log axis."""
_MEANS = {"accuracy": "-", "mean confidence": "--"}
_MIDDLE = 50
_MANY = 4
"""Powers of ten from which every second one is labelled."""
_STUDY = "calibration"


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bin that holds images; shares in percent."""

    number: int
    images: int
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """The bins of one subject that hold images, before and after the temperature."""

    subject: str
    look: Identity
    before: Sequence[Bin]
    after: Sequence[Bin]
    means: Mapping[str, float]
    """Accuracy and mean confidence over all images, in percent."""

    @property
    def all(self) -> list[Bin]:
        """The bins before, then those after."""
        return [*self.before, *self.after]


def draw_reliability(run: Run) -> Iterator[Drawing]:
    """Yield the reliability diagram: one square per subject, before and after the temperature."""
    found = [reliability_of(run, name, look) for name, look in looks_of(run)]
    shown = [one for one in found if one.before]
    if not shown:
        return
    columns, rows = grid_of(len(shown), _LEAST, _COLUMNS)
    side = min(_SIDE, (sheet_width() - 0.3) / columns - _AROUND)
    across, down = side + _AROUND, side * (1 + _COUNTS) + 0.91
    keys = _legend(shown)
    width = columns * across + 0.3
    above = legend_height(list(keys), width)
    drawing = sheet(
        "calibration_reliability",
        title="Reliability of confidence",
        caption=" ".join(_finding(run, one) for one in shown) + _method(run),
        height=above + down * rows + MARGIN,
        width=width,
    )
    for one, (row, column) in zip(shown, places_of(len(shown), columns), strict=True):
        x, y = 0.65 + across * column, above + 0.3 + down * row
        diagram = drawing.axes(x, y, side, side)
        counts = drawing.axes(x, y + side + 0.16, side, side * _COUNTS)
        _draw_diagram(diagram, one)
        _draw_counts(counts, one, 100 / _bin_count(run, shown))
        _scale_counts(counts, [each.images for other in shown for each in other.all])
        if len(shown) > 1:
            diagram.set_title(fit(one.look.label, NORMAL, side + 0.4), color=one.look.colour)
    add_legend(drawing, list(keys.values()), list(keys))
    yield drawing


def _legend(shown: Sequence[Reliability]) -> dict[str, Artist]:
    """Return what the marks mean, and how they look: a lone subject's in its own colour."""
    look = shown[0].look
    colour = look.colour if len(shown) == 1 else MUTED
    mark: dict[str, Any] = {"color": colour, "marker": look.marker, "linestyle": "none"}
    keys: dict[str, Artist] = {
        "bin": Line2D([], [], markersize=6, **mark),
        "95 % interval": Line2D([], [], color=colour, linewidth=3.2, alpha=0.3),
        "perfect": Line2D([], [], color=AXIS, linewidth=0.9, dashes=(4, 3)),
    }
    if any(one.after for one in shown):
        name = "after temperature scaling"
        keys[name] = Line2D([], [], markersize=6, markerfacecolor=PAPER, **mark)
    if any(each.images < _FEW for one in shown for each in one.all):
        keys[f"fewer than {_FEW} images"] = Line2D([], [], markersize=6, alpha=_FADED, **mark)
    return keys


def reliability_of(run: Run, subject: str, look: Identity) -> Reliability:
    """Return the bins and the means of one subject."""
    before = _bins_of(run, subject)
    means = {
        "accuracy": headline_value(run, "accuracy", "top1", subject),
        "mean confidence": headline_value(run, _STUDY, "confidence", subject),
    }
    if means["accuracy"] is None and before:
        right = sum(one.accuracy * one.images for one in before) / 100
        means["accuracy"] = right / sum(one.images for one in before)
    return Reliability(
        subject=subject,
        look=look,
        before=before,
        after=_bins_of(run, subject, scaled="temperature"),
        means={name: 100 * value for name, value in means.items() if value is not None},
    )


def _bins_of(run: Run, subject: str, **scaled: str) -> list[Bin]:
    """Return the bins that hold images, by number."""
    columns = {
        metric: {
            row.at["bin"]: row for row in rows_at(run, _STUDY, metric, subject, ("bin",), **scaled)
        }
        for metric in ("bin_images", "bin_confidence", "bin_accuracy")
    }
    found = []
    for number, counted in columns["bin_images"].items():
        confidence, accuracy = (columns[m].get(number) for m in ("bin_confidence", "bin_accuracy"))
        if not counted.value or confidence is None or accuracy is None:
            continue
        if confidence.value is None or accuracy.value is None:
            continue
        low, high = (
            accuracy.value if end is None else end for end in (accuracy.low, accuracy.high)
        )
        found.append(
            Bin(
                number=int(number),
                images=round(counted.value),
                low=100 * low,
                high=100 * high,
                confidence=100 * confidence.value,
                accuracy=100 * accuracy.value,
            )
        )
    return sorted(found, key=lambda one: one.number)


def _draw_diagram(axes: Axes, shown: Reliability) -> None:
    axes.plot([0, 100], [0, 100], color=AXIS, linewidth=0.9, dashes=(4, 3))
    axes.grid(visible=False)
    before, colour = shown.before, shown.look.colour
    confidence, faded = [one.confidence for one in before], _opacities(before)
    _mark(axes, shown, shown.after, facecolor=PAPER, edgecolor=colour, linewidth=1.0, zorder=3)
    axes.vlines(
        confidence,
        [one.low for one in before],
        [one.high for one in before],
        color=colour,
        linewidth=3.2,
        alpha=[0.3 * each for each in faded],
        capstyle="round",
    )
    axes.vlines(
        confidence,
        confidence,
        [one.accuracy for one in before],
        color=colour,
        linewidth=0.8,
        alpha=faded,
        zorder=4,
    )
    _mark(axes, shown, before, facecolor=colour, edgecolor=PAPER, linewidth=0.5, zorder=5)
    axes.text(3, 97, "under-confident", size="small", color=MUTED, va="top")
    axes.text(97, 3, "over-confident", size="small", color=MUTED, ha="right")
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("accuracy in the bin (%)")


def _opacities(bins: Sequence[Bin]) -> list[float]:
    return [_FADED if one.images < _FEW else 1.0 for one in bins]


def _mark(axes: Axes, shown: Reliability, bins: Sequence[Bin], **style: Any) -> None:
    """Draw a marker per bin, its area with the root of the count."""
    if not bins:
        return  # no temperature was fitted
    most = max(one.images for one in shown.all)
    axes.scatter(
        [one.confidence for one in bins],
        [one.accuracy for one in bins],
        s=[12 + 60 * math.sqrt(one.images / most) for one in bins],
        marker=shown.look.marker,
        alpha=_opacities(bins),  # type: ignore[arg-type]  # one for each is allowed
        clip_on=False,
        **style,
    )


def _draw_counts(axes: Axes, shown: Reliability, width: float) -> None:
    """Draw bars of images per bin, steps for after, and lines at the two means."""
    places = [(one.number - 0.5) * width for one in shown.before]
    axes.bar(
        places,
        [one.images for one in shown.before],
        width=0.86 * width,
        color=shown.look.colour,
        alpha=0.35,
    )
    ends = np.array([(one.number - 1, one.number) for one in shown.after]).reshape(-1, 2) * width
    axes.hlines(
        [one.images for one in shown.after], *ends.T, color=shown.look.colour, linewidth=1.1
    )
    for name, value in shown.means.items():
        axes.axvline(
            value, color=TEXT, linewidth=0.9, linestyle=_MEANS[name], label=f"{name} {value:.1f} %"
        )
    if shown.means:
        low = max(shown.means.values()) > _MIDDLE  # there are few images at the left
        axes.legend(
            loc="upper left" if low else "upper right",
            frameon=True,  # a line at a mean may pass below its words
            facecolor=PAPER,
            edgecolor="none",
            fancybox=False,
            borderpad=0.1,
            fontsize="small",
            handlelength=1.8,
            borderaxespad=0.1,
            labelspacing=0.25,
        )
    axes.set(xlim=(0, 100), xticks=range(0, 101, 20), xlabel="mean confidence in the bin (%)")


def _scale_counts(axes: Axes, counts: Sequence[int]) -> None:
    """Give every subject's counts the same axis, with room for names above the bars."""
    top = max(counts)
    if top > _LOG_FROM * min(counts):
        powers = range(int(math.log10(top)) + 1)
        axes.set_yscale("log")
        axes.set(ylim=(0.7, top**1.9), ylabel="images (log)")
        axes.set_yticks([10**power for power in powers[:: 1 if len(powers) < _MANY else 2]])
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set(ylim=(0, top * 1.45), ylabel="images")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))


def _bin_count(run: Run, shown: Sequence[Reliability]) -> int:
    highest = max(one.number for each in shown for one in each.all)
    return max(int(parameter(run, _STUDY, "bins", 15)), highest)


def _finding(run: Run, shown: Reliability) -> str:
    """Return what the study found for one subject, with the error and its interval."""
    words = [
        say_verdict(verdict).text
        for verdict in run.verdicts
        if (verdict.subject, verdict.study, verdict.name) == (shown.subject, _STUDY, _STUDY)
    ]
    error = headline(run, _STUDY, "ece", shown.subject)
    known = f"ECE {show_row(error).full}" if error else "ECE not known"
    found = "".join(f"{word}; " for word in words)
    return f"{shown.look.label}: {found}{known}{_scaled(run, shown.subject)}."


def _scaled(run: Run, subject: str) -> str:
    scaled = headline(run, _STUDY, "ece_scaled", subject)
    temperature = headline(run, _STUDY, "temperature", subject)
    if scaled is None or scaled.value is None or temperature is None or temperature.value is None:
        return ""
    return f", {show_row(scaled).full} after temperature {temperature.value:.2f}"


def _method(run: Run) -> str:
    bins = int(parameter(run, _STUDY, "bins", 15))
    scaled = any(row.at.get("scaled") for row in run.rows if row.study == _STUDY)
    return (
        f" {bins} bins of equal width, (lo, hi]; empty ones are absent, those of fewer than "
        f"{_FEW} images faded. Pale bars: 95 % Wilson interval; thin lines: the gap to the "
        "diagonal; area: root of the count."
        + (" Hollow marks and stepped lines: after temperature scaling." if scaled else "")
    )
