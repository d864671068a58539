from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text

from illama_eval.render.figures.attention import draw_samples
from illama_eval.render.figures.canvas import drawing_style
from illama_eval.render.samples import Samples


@pytest.fixture(scope="module")
def samples():
    random = np.random.default_rng(0)
    return Samples(
        ids=["test/00017", "test/00018"],
        images=random.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        attention=random.integers(0, 256, (2, 2, 4, 4), dtype=np.uint8),
        labels=[3, 5],
        predictions=[3, 0],
    )


def texts_of(figure):
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    unseen = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            drawn = axis._update_ticks() if axes.axison else []
            unseen |= {tick.label1 for tick in axis.get_major_ticks()}
            unseen -= {tick.label1 for tick in drawn}
    found = [text for text in figure.findobj(Text) if text.get_visible() and text not in unseen]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in found]
    return [(text, box) for text, box in boxes if text.strip() and box.width > 0]


def test_what_stands_beside_a_sample_does_not_cover_it(run_of, samples):
    long = replace(samples, ids=["m" * 300, "n01440764_tench"], labels=[1, 2], predictions=[2, 2])
    run = run_of(layers=1, heads=1, tokens=5)
    run = replace(
        run, header={"source": {"classes": ["a", "harvestman, daddy longlegs", "w" * 40]}}
    )
    with drawing_style():
        (drawing,) = draw_samples(run, long)
        (axes,) = drawing.figure.axes
        boxes = [box for text, box in texts_of(drawing.figure) if "\n" in text and box.y0 > 80]
    assert len(boxes) == 2
    assert all(0 < box.x0 < box.x1 < axes.bbox.x0 for box in boxes)


def test_samples_of_any_size_fit_their_patch_grid(run_of):
    for side, grid in ((224, 14), (30, 7), (8, 8), (5, 2)):
        sample = Samples(
            ids=["x"],
            images=np.full((1, side, side, 3), 9, np.uint8),
            attention=np.zeros((1, 3, grid, grid), np.uint8),
        )
        with drawing_style():
            (drawing,) = draw_samples(run_of(layers=1, heads=1, tokens=5), sample)
            texts_of(drawing.figure)
        assert f"of {grid * grid} patches" in drawing.caption
