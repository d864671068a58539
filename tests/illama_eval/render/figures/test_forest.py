"""Many models in one figure: who is in it, what counts as clear, and names as they are."""

from __future__ import annotations

import io
from xml.etree import ElementTree as ET

import pytest

from illama_eval.render.figures.forest import draw_forest
from illama_eval.render.format.escape import break_name
from illama_eval.render.models import load_models
from illama_eval.render.style.figure import drawing_style
from illama_eval.render.style.fonts import drawable

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def models_of(write_run, tmp_path):
    def make(names, **changes):
        paths = [
            write_run(
                tmp_path / str(n), subject=name, seed=n, accuracy=0.9 - 0.1 * min(n, 5), **changes
            )
            for n, name in enumerate(names)
        ]
        return load_models(paths)

    return make


def svg_of(drawing):
    stream = io.BytesIO()
    with drawing_style():
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None})
    return ET.fromstring(stream.getvalue())


def test_three_models_have_a_row_each_and_fewer_have_none(models_of):
    with drawing_style():
        (drawing,) = draw_forest(models_of(["a", "b", "c"]))
    assert drawing.title == "3 models side by side"
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes]
    assert titles[:2] == ["top-1 accuracy (%)", "ECE (%)"]
    assert "Blue: differs from it" in drawing.caption
    assert "Ring and line: a" in drawing.caption


def test_two_models_need_no_figure(models_of):
    assert not list(draw_forest(models_of(["a", "b"])))


def test_every_hostile_name_is_a_line_in_an_svg(models_of, hostile_names):
    models = models_of([name for name in hostile_names if "\udcff" not in name])
    with drawing_style():
        (drawing,) = draw_forest(models)
    root = svg_of(drawing)
    assert {child.tag for child in root.iter()} <= {
        *(f"{SVG}{tag}" for tag in ("svg", "defs", "style", "g", "path", "text", "use", "rect")),
        *(child.tag for child in root.find(f"{SVG}metadata").iter()),
        *(f"{SVG}{tag}" for tag in ("clipPath", "tspan", "title", "desc")),
    }
    lines = {"".join(text.itertext()) for text in root.findall(f".//{SVG}text")}
    names = {line for model in models for line in break_name(drawable(model.label), 34)}
    assert {name.replace(" ", "") for name in names} <= {line.replace(" ", "") for line in lines}
