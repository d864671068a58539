from __future__ import annotations

from itertools import combinations

import pytest
from msgspec import structs

from illama_eval.render.figures.sizes import Point, draw_sizes, points_of, same_size
from illama_eval.render.models import load_models
from illama_eval.render.style.figure import FigureStyle, drawing_style
from illama_eval.results import Run


def point(size, value):
    return Point(label=f"{size}", size=size, value=value)


@pytest.fixture
def sweep_of_sizes(quantized):
    """Return a run of nine quantized models, several of one size and of one accuracy."""
    run = Run.load(quantized)
    first, some, *_ = run.header["subjects"]
    sizes = {f"w{bits}{kind}": bits for bits in (2, 3, 4) for kind in ("", "-mse", "-gptq")}
    described = [
        {
            **some,
            "name": f"nano+{name}",
            "quantization": {
                **some["quantization"],
                "bytes": {**some["quantization"]["bytes"], "total": int(0.09e6 * bits + 0.1e6)},
            },
        }
        for name, bits in sizes.items()
    ]
    rows = [row for row in run.rows if row.subject == some["name"]]
    return Run(
        header={**run.header, "subjects": [first, *described]},
        rows=(
            *(row for row in run.rows if row.subject == first["name"]),
            *(structs.replace(row, subject=f"nano+{name}") for name in sizes for row in rows),
        ),
    )


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


@pytest.mark.parametrize("style", [FigureStyle("page", 7.0), FigureStyle("paper", 3.25)])
def test_no_two_names_of_a_sweep_touch(sweep_of_sizes, style):
    with drawing_style(style):
        (drawing,) = draw_sizes(sweep_of_sizes)
        drawing.figure.draw_without_rendering()
        for axes in drawing.figure.axes:
            boxes = [text.get_window_extent().shrunk(0.98, 0.9) for text in axes.texts]
            assert len(boxes) == 9
            assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
