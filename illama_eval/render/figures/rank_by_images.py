"""Figure of the rank of the mean map against how many images are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator

from illama.figure_style import AXIS
from illama_eval.render.attention_maps import DASHES, Maps, drawn_together, show_rank
from illama_eval.render.figures.canvas import Drawing
from illama_eval.render.figures.labels import NamedLine, drawn_once, name_lines, sheet_of_lines
from illama_eval.render.format.glossary import map_label
from illama_eval.results import Curve, Run

PAPER_IMAGES = 30
"""Images that the paper averages (Wang et al. 2024, Fig. 4)."""
_HIGH = 2.6
"""Height of the axes in inches."""


def draw_rank_by_images(run: Run) -> Iterator[Drawing]:
    """Yield the rank of the mean map against the number of images averaged."""
    lines = [(maps, curve) for maps in drawn_together(run) if (curve := _fall_of(run, maps))]
    if not lines:
        return
    among = [maps for maps, _ in lines]
    once = drawn_once(
        (maps.label(among), [np.array(curve.x), np.array(curve.y)]) for maps, curve in lines
    )
    shown, names = [lines[number] for number in once], list(once.values())
    drawing, axes = sheet_of_lines(
        "rank_by_images",
        "Rank of the mean map by the number of images averaged",
        f"{_fall_finding(lines)} Mean over layers and heads; of a few "
        "images over several draws. The paper averages 30 (dotted line).",
        names,
        _HIGH,
    )
    axes.set_xscale("log")
    axes.axvline(PAPER_IMAGES, color=AXIS, linewidth=0.8, linestyle=":")
    for maps, curve in shown:
        look = maps.look
        axes.plot(
            curve.x,
            curve.y,
            color=look.colour,
            linestyle=DASHES[maps.kind],
            marker=look.marker,
            markersize=3.5,
        )
    axes.set_xticks(_ticks([curve for _, curve in shown]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    tokens = max(maps.tokens for maps in among)
    axes.set(xlabel="images averaged", ylabel=f"rank (of {tokens})")
    axes.set_ylim(bottom=0)
    ends = [
        NamedLine(
            y=curve.y[-1],
            name=name,
            colour=maps.look.colour,
            marker=maps.look.marker,
            dash=DASHES[maps.kind],
        )
        for (maps, curve), name in zip(shown, names, strict=True)
    ]
    name_lines(drawing, axes, ends)
    yield drawing


def _ticks(curves: Sequence[Curve]) -> list[float]:
    """Return both ends of the axis, and the powers of ten with room between them."""
    first = min(float(curve.x[0]) for curve in curves)
    last = max(float(curve.x[-1]) for curve in curves)
    powers = [10.0**power for power in range(int(np.log10(first)), int(np.log10(last)) + 1)]
    return [first, *(each for each in powers if 3 * first <= each <= last / 3), last]


def _fall_of(run: Run, maps: Maps) -> Curve | None:
    """Return one kind of map's curve over the number of images, if it has one of several points."""
    at = {} if maps.kind == "used" else {"map": maps.kind}
    for curve in run.curves:
        if (curve.subject, curve.name, dict(curve.at)) == (maps.subject, "rank_by_images", at):
            return curve if len(curve.x) > 1 else None
    return None


def _fall_finding(lines: Sequence[tuple[Maps, Curve]]) -> str:
    """Return the rank at both ends of each line."""
    parts = [
        f"{maps.look.label}, {map_label(maps.kind)}: {show_rank(curve.y[0])} of "
        f"{curve.x[0]:,.0f} images, {show_rank(curve.y[-1])} of {curve.x[-1]:,.0f}."
        for maps, curve in lines
    ]
    return " ".join(parts)
