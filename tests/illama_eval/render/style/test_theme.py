from __future__ import annotations

import itertools

import numpy as np
import pytest

from illama_eval.render.style.palette import ON_SEQUENTIAL, SEQUENTIAL
from illama_eval.render.style.theme import DIVERGING, ON_DIVERGING, THEMES


def contrast(one, other):
    def luminance(colour):
        values = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_can_be_told_and_read_in_both_themes(theme):
    colours = {role: both[theme] for role, both in THEMES.items()}
    for ground in ("paper", "card"):
        for role in ("text", "muted", "link", "worse", "better", "neutral"):
            assert contrast(colours[role], colours[ground]) >= 4.5, (role, ground)
    for role in ("axis", "run0", "run1", "run2", "run3", "run4"):
        assert contrast(colours[role], colours["paper"]) >= 3, role
    for role, white in zip(DIVERGING, ON_DIVERGING[theme], strict=True):
        assert contrast(colours[role], "#ffffff" if white else "#000000") >= 4.5, role
    for cell, text in zip(SEQUENTIAL, ON_SEQUENTIAL, strict=True):
        assert contrast(cell, text) >= 4.5


def test_figures_take_all_colours_from_the_theme(page):
    plots = page.all("svg", class_="plot")
    assert len(plots) == 5
    for node in itertools.chain.from_iterable(plot.walk() for plot in plots):
        for name in ("fill", "stroke"):
            assert node.attributes.get(name, "none") == "none"
    shapes = {
        node.attributes["id"]: node.attributes["d"]
        for plot in plots
        for node in plot.all("path")
        if "id" in node.attributes
    }
    for use in (use for plot in plots for use in plot.all("use")):
        assert "class" in use.attributes or "z" not in shapes[use.attributes["href"][1:]]
    texts = {node.text for plot in plots for node in plot.all("text")}
    assert {"mean confidence in the bin (%)", "singular values taken"} <= texts
