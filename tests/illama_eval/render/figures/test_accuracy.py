from __future__ import annotations

import io
from xml.etree import ElementTree as ET

from illama_eval.render.figures.accuracy import draw_accuracy
from illama_eval.render.figures.canvas import drawing_style
from illama_eval.render.style.fonts import drawable

SVG = "{http://www.w3.org/2000/svg}"


def svg_of(drawing):
    stream = io.BytesIO()
    with drawing_style():
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None})
    return ET.fromstring(stream.getvalue())


def test_every_hostile_name_is_a_line_in_an_svg(run_of, hostile_names):
    run = run_of(subjects=hostile_names)
    with drawing_style():
        drawing = next(draw_accuracy(run))
    root = svg_of(drawing)
    assert {child.tag for child in root.iter()} <= {
        *(f"{SVG}{tag}" for tag in ("svg", "defs", "style", "g", "path", "text", "use", "rect")),
        *(child.tag for child in root.find(f"{SVG}metadata").iter()),
        *(f"{SVG}{tag}" for tag in ("clipPath", "tspan", "title", "desc")),
    }
    lines = {"".join(text.itertext()) for text in root.findall(f".//{SVG}text")}
    assert {drawable(name, 28) for name in hostile_names} <= lines
