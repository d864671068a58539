"""Figure of attention distance and rollout: how far each layer looks, and what reaches the head."""

from __future__ import annotations

from collections.abc import Iterator

from illama_eval.render.figures.canvas import Drawing
from illama_eval.render.figures.depth import Panel, draw_depth, line_of
from illama_eval.render.select import images_of
from illama_eval.render.style.palette import looks_of
from illama_eval.results import Run

_STUDY = "distance"
_PANELS = (
    ("attention_distance", "how far patches look", "distance (patches)", 1.0, "layer"),
    ("relative_distance", "over that of equal scores", "ratio", 1.0, "layer"),
    ("rollout_mass", "rollout to the head", "rollout (%)", 100.0, "raster_row"),
)
"""Metric, title, label, scale, and what it is drawn against."""


def draw_distance(run: Run) -> Iterator[Drawing]:
    """Yield distance and relative distance by layer, and the rollout by raster row."""
    panels = []
    for metric, title, label, scale, along in _PANELS:
        found = [
            line_of(run, _STUDY, metric, name, (look.label, look.colour, look.marker), along)
            for name, look in looks_of(run)
        ]
        lines = [line for line in found if line is not None]
        if lines:
            words = along.replace("_", " ")
            panels.append(Panel(title=title, label=label, lines=lines, scale=scale, along=words))
    if panels:
        yield draw_depth(
            "distance_by_layer",
            "How far attention looks, and what reaches the head",
            f"Means over {images_of(run, _STUDY)}; bands: 95 % intervals. Ratio 1: what equal "
            "scores would give under the same mask. Rollout: share of what reaches the head "
            "through all blocks, by row of patches from the top; a causal mask alone favours "
            "the first rows.",
            panels,
        )
