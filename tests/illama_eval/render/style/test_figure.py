from __future__ import annotations

import pytest
from matplotlib import rcParams

from illama_eval.render.style.figure import NARROWEST, FigureStyle, drawing_style, sheet_width


def test_layout_is_wider_where_the_font_is_smaller():
    with drawing_style(FigureStyle("page", 7.0, 9.6)):
        assert sheet_width() == pytest.approx(7)
    with drawing_style(FigureStyle("paper", 3.5, 4.8)):
        assert sheet_width() == pytest.approx(7)
        assert rcParams["pdf.fonttype"] == 42


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (("poster",), "style 'poster': it is one of page, paper"),
        (("page", 2.0), "width 2: with a font of 9.6 points it is from 3.80 to 38 inches"),
        (("paper", 3.1), "width 3.1: with a font of 8 points"),
        (("paper", 5.0, 40.0), "font size 40: it is from 4 to 24 points"),
        (("paper", float("nan")), "width nan"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(given, wrong):
    with pytest.raises(ValueError, match=wrong) as caught:
        FigureStyle(*given)
    assert "\n" not in str(caught.value)


def test_a_column_of_a_paper_is_wide_enough_for_its_font():
    with drawing_style(FigureStyle("paper", 3.25)):
        assert sheet_width() >= NARROWEST
