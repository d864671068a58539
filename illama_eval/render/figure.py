"""Figures of a run, each as PNG and SVG, with their captions beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from illama_eval.render.canvas import Drawing, drawing_style, save
from illama_eval.render.figures.accuracy import draw_accuracy
from illama_eval.render.figures.attention import Samples, draw_samples
from illama_eval.render.figures.calibration import draw_reliability
from illama_eval.render.figures.collapse import draw_collapse
from illama_eval.render.figures.rank import draw_rank_by_layer
from illama_eval.render.figures.rank_heads import draw_rank_by_head
from illama_eval.render.figures.spectra import draw_spectra
from illama_eval.result import Run

Draw: TypeAlias = Callable[[Run], Iterator[Drawing]]

DRAWN: tuple[Draw, ...] = (
    draw_accuracy,
    draw_reliability,
    draw_rank_by_layer,
    draw_spectra,
    draw_rank_by_head,
    draw_collapse,
)
"""Every figure, in the order in which a reader meets them; each draws nothing without its rows."""


def write_figures(run: Run, directory: Path, samples: Samples | None = None) -> list[Path]:
    """Write what the run's rows and samples can show, and captions.json; return the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    captions, paths = {}, []
    with drawing_style():
        for drawing in draw_all(run, samples):
            paths += save(drawing, directory)
            captions[drawing.name] = {"title": drawing.title, "caption": drawing.caption}
    path = directory / "captions.json"
    path.write_text(json.dumps(captions, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*paths, path]


def draw_all(run: Run, samples: Samples | None) -> Iterator[Drawing]:
    """Yield every figure that the rows and samples can fill, in the order of reading."""
    for draw in DRAWN:
        yield from draw(run)
    if samples is not None:
        yield from draw_samples(run, samples)
