from __future__ import annotations

import numpy as np
import pytest

from illama_eval.render.figures.segmentation import draw_segmentation, draw_segments
from illama_eval.render.samples import read_segments
from illama_eval.render.style.figure import drawing_style
from illama_eval.results import ResultError, Row, Run


def test_segments_of_another_shape_are_refused(tmp_path):
    image, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    for wrong in (mask[:3], mask[0], mask.astype(float)):
        np.savez(tmp_path / "segments.npz", image0=image, mask0=mask, predicted0=wrong)
        with pytest.raises(ResultError, match="predicted0 is"):
            read_segments(tmp_path)
    np.savez(tmp_path / "segments.npz", other=mask)
    assert read_segments(tmp_path) is None


def test_of_many_classes_the_best_and_the_worst_are_drawn():
    rows = [
        Row(
            subject="net",
            study="segmentation",
            metric=metric,
            value=number / 100,
            images=4,
            at={"class": f"class {number}", **at},
        )
        for number in range(40)
        for metric, at in (("iou", {"mode": "slide"}), ("pixels", {}))
    ]
    with drawing_style():
        (drawing,) = draw_segmentation(Run(header={}, rows=tuple(rows)))
    (axes,) = drawing.figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"class {n}" for n in (*range(39, 24, -1), *range(14, -1, -1))]
    assert "The 15 best and worst of 40 are shown." in drawing.caption
    assert [text.get_text() for text in axes.texts][:3] == ["pixels", "39.0 %", "38.0 %"]


def test_each_class_of_a_picture_has_a_colour_and_no_class_is_white():
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    sample = {"image": np.zeros((2, 2, 3), np.uint8), "mask": mask, "predicted": mask}
    run = Run(
        header={}, rows=(Row(subject="net", study="segmentation", metric="m", value=1.0, images=1),)
    )
    with drawing_style():
        (drawing,) = draw_segments(run, [sample])
    shown = [axes.images[0].get_array() for axes in drawing.figure.axes if axes.images]
    assert len(shown) == 3
    colours = shown[1].reshape(4, 3).tolist()
    assert len({*map(tuple, colours)}) == 4
    assert colours[3] == [255, 255, 255]
    (legend,) = drawing.figure.legends
    named = {
        text.get_text(): [round(255 * part) for part in patch.get_facecolor()[:3]]
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert named == {f"class {number}": colours[number] for number in range(3)}
