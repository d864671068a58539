from dataclasses import replace

import numpy as np

from illama_eval.render.figures.attention import draw_samples
from illama_eval.render.samples import Samples
from illama_eval.render.style.figure import drawing_style


def test_what_stands_beside_a_sample_does_not_cover_it(texts_of, run_of, samples):
    long = replace(samples, ids=["m" * 300, "n01440764_tench"], labels=[1, 2], predictions=[2, 2])
    run = run_of(layers=1, heads=1, tokens=5)
    run = replace(
        run, header={"source": {"classes": ["a", "harvestman, daddy longlegs", "w" * 40]}}
    )
    with drawing_style():
        (drawing,) = draw_samples(run, long)
        axes, _ = drawing.figure.axes
        boxes = [box for text, box in texts_of(drawing.figure) if "\n" in text and box.y0 > 80]
    assert len(boxes) == 2
    assert all(0 < box.x0 < box.x1 < axes.bbox.x0 for box in boxes)


def test_samples_of_any_size_fit_their_patch_grid(texts_of, run_of):
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
