from __future__ import annotations

import pytest

from illama_eval.render.figures.sizes import Point, draw_sizes, points_of, same_size
from illama_eval.render.models import load_models
from illama_eval.render.style.figure import drawing_style
from illama_eval.results import Run


def point(size, value):
    return Point(label=f"{size}", size=size, value=value)


def test_files_of_one_size_differ_by_their_headers_alone():
    assert same_size(point(1.0, 0), point(1.009, 0))
    assert not same_size(point(1.0, 0), point(1.02, 0))


def test_points_are_the_quantized_models_and_two_make_no_figure(quantized):
    run = Run.load(quantized)
    points = points_of(run, "accuracy", "top1", {})
    assert [(each.label, each.simulated) for each in points] == [("w4", True), ("w8", False)]
    assert [each.size for each in points] == [0.511, 0.911]
    assert points[0].value == 100 * run.value("accuracy", "top1", "nano+w4").value
    assert list(draw_sizes(run)) == []


def test_bars_are_paired_around_the_exact_model_and_what_is_clearly_worse_is_grey(
    quantized, monkeypatch
):
    monkeypatch.setattr("illama_eval.render.figures.sizes._FEWEST", 2)
    models = load_models([quantized])
    changes = models.changes_from_first("accuracy", "top1")
    points = {each.label: each for each in points_of(models.run, "accuracy", "top1", changes)}
    exact = models.run.value("accuracy", "top1", "nano").value
    for label, each in points.items():
        change = changes[f"nano+{label}"]
        assert (each.low, each.high) == pytest.approx(
            (100 * (exact + change.low), 100 * (exact + change.high))
        )
    assert [points[label].worse for label in ("w8", "w4")] == [False, True]
    with drawing_style():
        (drawing,) = draw_sizes(models.run, changes)
        (alone,) = draw_sizes(models.run)
    (legend,) = drawing.figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words[0].startswith("fp32, ")
    assert words[1:] == ["integer arithmetic", "simulated", "clearly worse than fp32"]
    assert "Smallest file that is not clearly worse: w8, 0.911 MB." in drawing.caption
    assert "which do not tell two models apart" in alone.caption
