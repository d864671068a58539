"""Figure of attention collapse by layer: a panel for each kind, with its limit and verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from illama.figure_style import AXIS, MUTED, TEXT
from illama_eval.render.figures.canvas import BAND, Drawing, grid_of, places_of, sheet
from illama_eval.render.figures.labels import add_legend, drawn_once, label_layers, legend_height
from illama_eval.render.select import (
    Array,
    head_grid,
    images_of,
    layer_values,
    parameter,
    range_of_heads,
)
from illama_eval.render.style.figure import LINE, SMALL
from illama_eval.render.style.fonts import POINTS, drawable, fit
from illama_eval.render.style.palette import Identity, looks_of
from illama_eval.results import Run

_STUDY = "collapse"
_COLUMNS, _LEAST = 3, 1.9
"""Most panels side by side, and their least width with all labels in inches."""
_DOWN, _TITLES, _TICKS, _NAME = 1.3, 0.48, 0.3, 0.17
"""Height of a panel, of its title and verdict, of its ticks, and of the axis' name, in inches."""
_VERDICT = SMALL * LINE / POINTS
_RAISED = 0.12
"""Height of a verdict's line, and how far the lowest line is above a panel, in inches."""
_FEW_TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One kind of collapse: what is drawn, and from which side its limit is passed."""

    verdict: str
    title: str
    metric: str
    label: str
    limit: str = ""
    """The study's parameter that is drawn as a rule."""
    default: float = 0.0
    side: Literal["above", "below"] = "above"
    percent: bool = True
    top: float = 1.0


PANELS = (
    Panel(
        verdict="class_token_isolation",
        title="class token",
        metric="reach",
        label="attention to image (%)",
    ),
    Panel(
        verdict="layer_similarity",
        title="neighbouring layers",
        metric="similarity",
        label="similarity (cosine)",
        limit="similar_above",
        default=0.9,
        percent=False,
    ),
    Panel(
        verdict="entropy_collapse",
        title="entropy",
        metric="entropy_share",
        label="share of largest (%)",
        limit="collapsed_below",
        default=0.1,
        side="below",
    ),
    Panel(
        verdict="row_mass",
        title="mass of rows",
        metric="row_mass",
        label="mass (%)",
        limit="whole_above",
        default=0.99,
        side="below",
    ),
    Panel(
        verdict="attention_sinks",
        title="attention sinks",
        metric="sink_share",
        label="images with sink (%)",
        limit="sink_share_above",
        default=0.5,
    ),
    Panel(
        verdict="token_norm_outliers",
        title="outlying norms",
        metric="outlier_images",
        label="images (%)",
        limit="outlier_images_above",
        default=0.005,
        top=0.02,
    ),
    Panel(
        verdict="massive_activations",
        title="massive activations",
        metric="massive_images",
        label="images (%)",
        limit="outlier_images_above",
        default=0.005,
        top=0.02,
    ),
    Panel(
        verdict="token_rank",
        title="likeness of tokens",
        metric="token_residual",
        label="residual (%)",
        limit="alike_below",
        default=0.1,
        side="below",
    ),
)


def draw_collapse(run: Run) -> Iterator[Drawing]:
    """Yield small panels against depth: mean over the heads, their range, and the limit."""
    looks = looks_of(run)
    panels = [
        panel
        for panel in PANELS
        if any(layer_values(run, _STUDY, panel.metric, name).size for name, _ in looks)
    ]
    if not panels:
        return
    shown = [(name, look) for name, look in looks if _layers(run, panels, [name])]
    layers = _layers(run, panels, [name for name, _ in shown])
    once = drawn_once((look.label, _numbers(run, panels, name)) for name, look in shown)
    distinct, names = [shown[number] for number in once], list(once.values())
    columns, rows = grid_of(len(panels), _LEAST, _COLUMNS)
    several = len(shown) > 1
    above = legend_height(names) if several else 0.0
    titles = _TITLES - (_VERDICT if several else 0.0)
    down = titles + _DOWN + _TICKS
    drawing = sheet(
        "collapse_by_layer",
        title="Attention collapse by layer",
        caption=f"{_finding(run, shown)} Means over {images_of(run, _STUDY)}. Lines: mean over the "
        "heads; bands: lowest to highest head; grey rules: limits, on the shaded side of which a "
        "layer or head counts.",
        height=above + rows * down + _NAME,
    )
    across = (drawing.size[0] - 0.05) / columns
    for number, (row, column) in enumerate(places_of(len(panels), columns)):
        panel, y = panels[number], above + titles + row * down
        axes = drawing.axes(0.55 + column * across, y, across - 0.6, _DOWN)
        _draw_panel(axes, run, panel, distinct)
        _name_panel(axes, run, panel, across - 0.6, several=several)
        label_layers(axes, layers, _FEW_TICKS)
        axes.set_xlabel("layer" if number + columns >= len(panels) else "")
    if several:
        lines = [Line2D([], [], color=look.colour, marker=look.marker) for _, look in distinct]
        add_legend(drawing, lines, names)
    yield drawing


def _numbers(run: Run, panels: Sequence[Panel], name: str) -> list[Array]:
    """Return all that is drawn of a subject."""
    return [
        values(run, _STUDY, panel.metric, name)
        for panel in panels
        for values in (layer_values, head_grid)
    ]


def _draw_panel(axes: Axes, run: Run, panel: Panel, shown: Sequence[tuple[str, Identity]]) -> None:
    scale = 100 if panel.percent else 1
    bottom, top = 0.0, scale * panel.top
    for name, look in shown:
        mean = scale * layer_values(run, _STUDY, panel.metric, name)
        heads = scale * head_grid(run, _STUDY, panel.metric, name)
        places = np.arange(1, len(mean) + 1)
        axes.plot(
            places,
            mean,
            color=look.colour,
            marker=look.marker,
            markersize=3.5,
            linewidth=1.5,
            zorder=3,
            clip_on=False,
        )
        if heads.shape[1:] > (1,):
            axes.fill_between(
                places, *range_of_heads(heads), color=look.colour, alpha=BAND, linewidth=0
            )
        seen = np.concatenate([mean, heads.ravel()])
        seen = seen[np.isfinite(seen)]
        bottom, top = min([bottom, *seen]), max([top, *seen])
    axes.set(ylim=(bottom, bottom + 1.03 * (top - bottom)), ylabel=panel.label)
    if panel.limit and not _by_design(run, panel):
        limit = scale * parameter(run, _STUDY, panel.limit, panel.default)
        axes.axhline(limit, color=AXIS, linewidth=0.8, zorder=1)
        beyond = (limit, axes.get_ylim()[1]) if panel.side == "above" else (bottom, limit)
        axes.axhspan(*beyond, color=AXIS, alpha=0.1, linewidth=0)


def _by_design(run: Run, panel: Panel) -> bool:
    """Return whether the study says that some subject passes the limit by design."""
    words = [v.verdict for v in run.verdicts if (v.study, v.name) == (_STUDY, panel.verdict)]
    return any(word.endswith("by design") for word in words)


def _name_panel(axes: Axes, run: Run, panel: Panel, across: float, *, several: bool) -> None:
    """Write the panel's title and, for a lone subject, its verdict below."""
    words = [v.verdict for v in run.verdicts if (v.study, v.name) == (_STUDY, panel.verdict)]
    below = [] if several else [(drawable(word), MUTED) for word in words[:1]]
    for place, (line, colour) in enumerate([(panel.title, TEXT), *below]):
        height = 1 + (_RAISED + (len(below) - place) * _VERDICT) / _DOWN
        shown = fit(line, SMALL, across)
        axes.text(0, height, shown, color=colour, size="small", transform=axes.transAxes)


def _layers(run: Run, panels: Sequence[Panel], subjects: Sequence[str]) -> int:
    return max(
        len(layer_values(run, _STUDY, panel.metric, name)) for panel in panels for name in subjects
    )


def _finding(run: Run, shown: Sequence[tuple[str, Identity]]) -> str:
    """Return the subjects' verdicts, a sentence for all that have the same."""
    owners: dict[str, list[str]] = {}
    for name, look in shown:
        words = [
            f"{panel.title}: {verdict.verdict}"
            for panel in PANELS
            for verdict in run.verdicts
            if (verdict.subject, verdict.study, verdict.name) == (name, _STUDY, panel.verdict)
        ]
        if words:
            owners.setdefault("; ".join(words), []).append(look.label)
    return " ".join(f"{', '.join(names)}: {words}." for words, names in owners.items())
