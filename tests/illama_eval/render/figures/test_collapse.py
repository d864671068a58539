from __future__ import annotations

from dataclasses import replace

import pytest

from illama_eval.render.figures.collapse import draw_collapse
from illama_eval.render.style.figure import drawing_style
from illama_eval.results import Verdict


@pytest.fixture
def drawn(run_of):
    """Return a run of two layers, and its figure."""
    verdict = Verdict(
        subject="nano", study="collapse", name="row_mass", verdict="leaking", reason=""
    )
    run = replace(run_of(), verdicts=(verdict,))
    with drawing_style():
        (drawing,) = draw_collapse(run)
        drawing.figure.draw_without_rendering()
    return run, drawing


def test_a_panel_has_the_mean_of_the_heads_and_a_band_to_the_outermost(drawn):
    run, drawing = drawn
    panels = {axes.texts[0].get_text(): axes for axes in drawing.figure.axes}
    assert list(panels) == ["class token", "neighbouring layers", "entropy", "mass of rows"]
    axes = panels["entropy"]
    heads = [
        [
            100 * run.value("collapse", "entropy_share", layer=layer, head=head).value
            for head in (1, 2, 3)
        ]
        for layer in (1, 2)
    ]
    assert axes.lines[0].get_ydata() == pytest.approx([sum(each) / 3 for each in heads])
    band = axes.collections[0]
    ends = band.get_paths()[0].vertices[:, 1]
    assert ends.min() == pytest.approx(min(map(min, heads)))
    assert ends.max() == pytest.approx(max(map(max, heads)))


def test_the_verdict_stands_in_panel_and_caption(drawn):
    _, drawing = drawn
    panels = {axes.texts[0].get_text(): axes for axes in drawing.figure.axes}
    assert [text.get_text() for text in panels["mass of rows"].texts] == ["mass of rows", "leaking"]
    assert drawing.caption.startswith("nano: mass of rows: leaking. Means over 10,000 images.")


def test_limits_are_those_of_the_study(drawn, run_of):
    run, _ = drawn
    studies = {"identity": {"studies": {"collapse": {"similar_above": 0.4}}}}
    with drawing_style():
        (drawing,) = draw_collapse(replace(run, header=studies))
    panels = {axes.texts[0].get_text(): axes for axes in drawing.figure.axes}
    assert panels["neighbouring layers"].lines[-1].get_ydata()[0] == 0.4
    assert panels["entropy"].lines[-1].get_ydata()[0] == 10
