"""Figures of what is known early: after part of the image, and after part of the layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from illama_eval.render.figures.canvas import BAND, Drawing
from illama_eval.render.figures.depth import Line, Panel, draw_depth, line_of
from illama_eval.render.figures.labels import NamedLine, drawn_once, name_lines, sheet_of_lines
from illama_eval.render.select import images_of
from illama_eval.render.style.palette import RUNS, looks_of
from illama_eval.results import Run

_READOUTS = (
    ("head_class", "head, class token"),
    ("head_patches", "head, mean of patches"),
    ("knn_class", "neighbours, class token"),
    ("knn_patches", "neighbours, mean of patches"),
)
_DOWN = 2.0
"""Height of the axes in inches."""


def draw_lens(run: Run) -> Iterator[Drawing]:
    """Yield the accuracy of every readout against the layer.

    A lone subject has a line for each readout; several have one each, of the head and of
    neighbours on the class token.
    """
    looks = looks_of(run)
    if len(looks) > 1:
        panels = [
            Panel(title=title, label="accuracy (%)", lines=lines)
            for metric, title in (_READOUTS[0], _READOUTS[2])
            if (
                lines := [
                    line
                    for name, look in looks
                    if (
                        line := line_of(
                            run, "lens", metric, name, (look.label, look.colour, look.marker)
                        )
                    )
                ]
            )
        ]
    else:
        lines = _readouts(run, looks[0][0]) if looks else []
        panels = [Panel(title="read off after each block", label="accuracy (%)", lines=lines)]
    panels = [panel for panel in panels if panel.lines]
    if panels:
        yield draw_depth(
            "lens_by_layer",
            "Accuracy read off after every block",
            f"On {images_of(run, 'lens')} (neighbours: at most 1,024). The head is that of the "
            "last block, through the final norm; neighbours see the states themselves. Bands: "
            "95 % intervals.",
            panels,
        )


def _readouts(run: Run, subject: str) -> list[Line]:
    found = [
        line_of(run, "lens", metric, subject, (label, *look))
        for (metric, label), look in zip(_READOUTS, RUNS[1:], strict=True)
    ]
    return [line for line in found if line is not None]


def draw_anytime(run: Run) -> Iterator[Drawing]:
    """Yield top-1 against the share of the patches that is given, a line for each subject."""
    shown = [(look, _by_share(run, name)) for name, look in looks_of(run)]
    shown = [(look, points) for look, points in shown if points]
    if not shown:
        return
    paired = " of each subject alone; on equal images the paired difference of two is surer"
    once = drawn_once((look.label, [np.array(points)]) for look, points in shown)
    shown, names = [shown[number] for number in once], list(once.values())
    drawing, axes = sheet_of_lines(
        "anytime_top1",
        "Top-1 accuracy after part of the image",
        f"On {images_of(run, 'anytime')}. The model is given the first patches in raster "
        f"order alone. Bands: 95 % intervals{paired if len(shown) > 1 else ''}.",
        names,
        _DOWN,
    )
    for look, points in shown:
        share, value, low, high = 100 * np.array(points).T
        axes.plot(share, value, color=look.colour, marker=look.marker, markersize=4.5, zorder=3)
        axes.fill_between(share, low, high, color=look.colour, alpha=BAND, linewidth=0)
    ticks = sorted({100 * point[0] for _, points in shown for point in points})
    axes.set(ylim=(0, axes.get_ylim()[1]), xticks=ticks)
    axes.set(xlabel="patches given (%)", ylabel="top-1 accuracy (%)")
    ends = [
        NamedLine(y=100 * points[-1][1], name=name, colour=look.colour, marker=look.marker)
        for (look, points), name in zip(shown, names, strict=True)
    ]
    name_lines(drawing, axes, ends)
    yield drawing


def _by_share(run: Run, subject: str) -> list[tuple[float, float, float, float]]:
    """Return share given, top-1, and the ends of its interval, in order of the share."""
    points = []
    for row in run.by_metric.get((subject, "anytime", "prefix_top1"), ()):
        if "given" in row.at and row.value is not None:
            share = float(str(row.at["given"]).removesuffix(" %")) / 100
            low = row.value if row.low is None else row.low
            high = row.value if row.high is None else row.high
            points.append((share, row.value, low, high))
    return sorted(points)
