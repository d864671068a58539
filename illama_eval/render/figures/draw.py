"""All figures of a run, in order, and their files, each with its caption as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

from illama_eval.render.figures.attention import draw_samples
from illama_eval.render.figures.calibration import draw_reliability
from illama_eval.render.figures.canvas import ENDINGS, Drawing, save
from illama_eval.render.figures.causality import draw_causality
from illama_eval.render.figures.collapse import draw_collapse
from illama_eval.render.figures.distance import draw_distance
from illama_eval.render.figures.prefix import draw_anytime, draw_lens
from illama_eval.render.figures.rank import draw_rank_by_layer, draw_spectra
from illama_eval.render.figures.rank_by_head import draw_rank_by_head
from illama_eval.render.figures.rank_by_images import draw_rank_by_images
from illama_eval.render.figures.segmentation import draw_segmentation, draw_segments
from illama_eval.render.figures.sensitivity import draw_sensitivity
from illama_eval.render.figures.shape_bias import draw_shape_bias
from illama_eval.render.figures.sizes import Changes, draw_sizes
from illama_eval.render.figures.transfer import draw_transfer
from illama_eval.render.samples import Samples, Segments, read_samples, read_segments
from illama_eval.render.select import subjects_of
from illama_eval.render.style.figure import PAGE, FigureStyle, drawing_style
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
    draw_sensitivity,
    draw_transfer,
)
"""Every figure, in the order of reading; each draws nothing without its rows."""

EMBEDDED: tuple[Draw, ...] = tuple(draw for draw in DRAWN if draw is not draw_rank_by_head)
"""Those that a page holds, which shows ranks by head as tables."""


def write_figures(
    drawings: Iterable[Drawing],
    directory: Path,
    style: FigureStyle = PAGE,
    endings: tuple[str, ...] | None = None,
) -> list[Path]:
    """Write figures, and their captions as text; return the paths.

    `style` is the one in which they were drawn, and decides the `endings` where none are given.
    """
    directory.mkdir(parents=True, exist_ok=True)
    endings = endings or ENDINGS[style.purpose]
    with drawing_style(style):
        return [path for drawing in drawings for path in save(drawing, directory, endings)]


def draw_all(
    run: Run,
    samples: Mapping[str, Samples] | None = None,
    segments: Segments | None = None,
    changes: Changes | None = None,
) -> list[Drawing]:
    """Return every figure that rows and samples can fill, in the order of reading.

    `samples` are those of each subject that has some; `changes` the paired changes of top-1 from
    the exact model to quantized ones.
    """
    drawings = _draw(DRAWN, run, segments, changes)
    for subject, each in (samples or {}).items():
        drawings += draw_samples(run, each, subject)
    return drawings


def draw_embedded(
    run: Run, segments: Segments | None = None, changes: Changes | None = None
) -> list[Drawing]:
    """Return the figures of a page that the rows can fill, in the order of reading."""
    return _draw(EMBEDDED, run, segments, changes)


def figure_named(
    run: Run, name: str, directory: Path | None = None, style: FigureStyle = PAGE
) -> Figure:
    """Return one figure of a run; without a directory, none of its sample images.

    A part of a name is enough where it is in one name alone.

    Raises:
        KeyError: the run has no such figure, or several; the message lists those it has.
    """
    samples = read_samples(directory) if directory else None
    segments = read_segments(directory) if directory else None
    mine = dict.fromkeys(subjects_of(run)[:1], samples) if samples else {}
    with drawing_style(style):
        found = {each.name: each.figure for each in draw_all(run, mine, segments)}
    fitting = [each for each in found if name in each]
    if name not in found and len(fitting) != 1:
        raise KeyError(f"no one figure {name!r}; this run has {', '.join(found)}")
    return found[name if name in found else fitting[0]]


def _draw(
    draws: Iterable[Draw], run: Run, segments: Segments | None, changes: Changes | None
) -> list[Drawing]:
    drawings = [drawing for draw in draws for drawing in draw(run)]
    drawings += draw_sizes(run, changes)
    return drawings if segments is None else [*drawings, *draw_segments(run, segments)]
