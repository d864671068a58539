from __future__ import annotations

import pytest

from illama_eval.render.figures.sensitivity import draw_sensitivity
from illama_eval.render.style.figure import drawing_style
from illama_eval.results import Row, Run


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
    assert drawing.caption.startswith(
        "Most sensitive: up in layer 2, 33\N{NO-BREAK SPACE}% of the sum over all 6"
    )
    shown = [float(text.get_text()) for text in drawing.figure.axes[0].texts]
    assert shown == pytest.approx([1, 2, 3, 2, 4, 6])
    bar = drawing.figure.axes[1]
    ends = [float(label.get_text()) for label in bar.get_xticklabels()]
    assert (ends[0], ends[-1]) == (1, 6)


def test_a_layer_that_diverges_by_nothing_is_the_darkest():
    rows = [
        Row(
            subject="nano",
            study="sensitivity",
            metric="kl",
            value=value,
            images=9,
            at={"layer": layer, "kind": "qkv", "scheme": "w8"},
        )
        for layer, value in enumerate((0.0, 2e-5, None), start=1)
    ]
    with drawing_style():
        (drawing,) = draw_sensitivity(Run(header={}, rows=tuple(rows)))
    axes = drawing.figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.0000", "0.0200", "\N{EM DASH}"]
