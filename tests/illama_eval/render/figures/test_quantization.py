from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illama_eval.render.figures.canvas import drawing_style
from illama_eval.render.figures.quantization import (
    Point,
    draw_sensitivity,
    draw_sizes,
    pareto,
    points_of,
    same_size,
)
from illama_eval.results import Row, Run


def point(size, value):
    row = Row(metric="top1", value=value, images=9)
    return Point(label=f"{size}", size=size, row=row, simulated=False)


def test_the_front_leaves_out_what_a_smaller_file_beats():
    points = [point(1.0, 0.5), point(2.0, 0.4), point(2.001, 0.7), point(3.0, 0.7), point(4.0, 0.8)]
    assert [each.size for each in pareto(points)] == [1.0, 2.001, 4.0]
    assert same_size(point(1.0, 0), point(1.009, 0))
    assert not same_size(point(1.0, 0), point(1.02, 0))


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), min_size=1, max_size=12))
def test_no_smaller_file_is_better_than_one_on_the_front(pairs):
    points = [point(float(size), value) for size, value in pairs]
    front = pareto(points)
    for each in front:
        assert all(other.value < each.value for other in points if other.size < each.size)
    assert max(p.value for p in points) == front[-1].value


def test_points_are_the_quantized_models_and_two_make_no_figure(quantized):
    run = Run.load(quantized)
    points = points_of(run, "accuracy", "top1")
    assert [(each.label, each.simulated) for each in points] == [("w4", True), ("w8", False)]
    assert [each.size for each in points] == [0.511, 0.911]
    assert points[0].value == 100 * run.value("accuracy", "top1", "nano+w4").value
    assert list(draw_sizes(run)) == []


def test_the_sensitivity_map_names_the_layer_and_kind_that_count_most():
    rows = [
        Row(
            subject="nano",
            study="sensitivity",
            metric="kl",
            value=0.001 * layer * kind,
            images=9,
            at={"layer": layer, "kind": name, "scheme": "w3"},
        )
        for layer in (1, 2)
        for kind, name in enumerate(("qkv", "gate", "up"), start=1)
    ]
    with drawing_style():
        (drawing,) = draw_sensitivity(Run(header={}, rows=tuple(rows)))
    assert drawing.name == "sensitivity_w3"
    assert drawing.caption.startswith("Most sensitive: up in layer 2, 33% of the sum over 6")
    shown = [float(text.get_text()) for text in drawing.figure.axes[0].texts]
    assert shown == pytest.approx([1, 2, 3, 2, 4, 6])
