"""All figures of a run, in order, and their files: PNG, SVG and captions.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

from illama_eval.render.figures.attention import draw_samples
from illama_eval.render.figures.calibration import draw_reliability
from illama_eval.render.figures.canvas import Drawing, drawing_style, save
from illama_eval.render.figures.causality import draw_causality
from illama_eval.render.figures.collapse import draw_collapse
from illama_eval.render.figures.distance import draw_distance
from illama_eval.render.figures.prefix import draw_anytime, draw_lens
from illama_eval.render.figures.quantization import draw_sensitivity, draw_sizes
from illama_eval.render.figures.rank import draw_rank_by_head, draw_rank_by_layer, draw_spectra
from illama_eval.render.figures.rank_by_images import draw_rank_by_images
from illama_eval.render.figures.segmentation import (
    Segments,
    draw_segmentation,
    draw_segments,
    read_segments,
)
from illama_eval.render.figures.shape_bias import draw_shape_bias
from illama_eval.render.figures.transfer import draw_transfer
from illama_eval.render.samples import Samples, read_samples
from illama_eval.results import Run

Draw: TypeAlias = Callable[[Run], Iterator[Drawing]]

DRAWN: tuple[Draw, ...] = (
    draw_reliability,
    draw_shape_bias,
    draw_rank_by_layer,
    draw_rank_by_images,
    draw_spectra,
    draw_rank_by_head,
    draw_collapse,
    draw_causality,
    draw_anytime,
    draw_lens,
    draw_distance,
    draw_segmentation,
    draw_sizes,
    draw_sensitivity,
    draw_transfer,
)
"""Every figure, in the order of reading; each draws nothing without its rows."""

EMBEDDED: tuple[Draw, ...] = tuple(draw for draw in DRAWN if draw is not draw_rank_by_head)
"""Those that a page holds, which shows ranks by head as tables."""


def write_figures(drawings: Iterable[Drawing], directory: Path) -> list[Path]:
    """Write figures as PNG and SVG, and captions.json; return the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    captions, paths = {}, []
    with drawing_style():
        for drawing in drawings:
            paths += save(drawing, directory)
            captions[drawing.name] = {"title": drawing.title, "caption": drawing.caption}
    path = directory / "captions.json"
    path.write_text(json.dumps(captions, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*paths, path]


def draw_all(run: Run, samples: Samples | None, segments: Segments | None = None) -> list[Drawing]:
    """Return every figure that the rows and samples can fill, in the order of reading."""
    with drawing_style():
        drawings = _draw(DRAWN, run, segments)
        return drawings if samples is None else [*drawings, *draw_samples(run, samples)]


def draw_embedded(run: Run, segments: Segments | None = None) -> list[Drawing]:
    """Return the figures of a page that the rows can fill, in the order of reading."""
    with drawing_style():
        return _draw(EMBEDDED, run, segments)


def figure_named(run: Run, name: str, directory: Path | None = None) -> Figure:
    """Return one figure of a run; without a directory, none of its sample images.

    A part of a name is enough where it is in one name alone.

    Raises:
        KeyError: the run has no such figure, or several; the message lists those it has.
    """
    samples = read_samples(directory) if directory else None
    drawings = draw_all(run, samples, read_segments(directory) if directory else None)
    found = {drawing.name: drawing.figure for drawing in drawings}
    fitting = [each for each in found if name in each]
    if name not in found and len(fitting) != 1:
        raise KeyError(f"no one figure {name!r}; this run has {', '.join(found)}")
    return found[name if name in found else fitting[0]]


def _draw(draws: Iterable[Draw], run: Run, segments: Segments | None) -> list[Drawing]:
    drawings = [drawing for draw in draws for drawing in draw(run)]
    return drawings if segments is None else [*drawings, *draw_segments(run, segments)]
