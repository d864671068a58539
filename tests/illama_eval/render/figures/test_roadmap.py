from __future__ import annotations

import pytest

from illama_eval.render.figures.roadmap import draw_roadmap
from illama_eval.render.roadmap import write_roadmap
from illama_eval.render.roadmap_runs import read_runs
from illama_eval.render.style.figure import drawing_style


def test_a_step_is_a_row_and_the_isolated_one_is_marked(road, texts_of):
    with drawing_style():
        drawing = draw_roadmap(read_runs(road))
        words = [text for text, _ in texts_of(drawing.figure)]
    assert [words.count(word) for word in ("front", "behind", "isolated")] == [1, 1, 1]
    assert drawing.caption.startswith("Isolated, its class token sees no image: front (arrows")
    assert "Highest mean top-1: behind." in drawing.caption
    loss = drawing.figure.axes[1]
    means = {line.get_ydata()[0]: line.get_xdata()[0] for line in loss.lines if line.zorder == 3}
    assert means == {0: pytest.approx(1.7), 1: pytest.approx(1.25)}


def test_the_figure_is_drawn_again_from_the_folder_alone(road):
    write_roadmap(road)
    before = (road / "roadmap.svg").read_bytes()
    (road / "roadmap.svg").unlink()
    write_roadmap(road)
    assert (road / "roadmap.svg").read_bytes() == before
