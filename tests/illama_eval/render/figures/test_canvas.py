"""The sheet: its size in every style, and files that are the same every time."""

import pytest

from illama_eval.render.figures.canvas import ENDINGS, grid_of, save, sheet
from illama_eval.render.style.figure import FigureStyle, drawing_style


def drawn(style):
    with drawing_style(style):
        drawing = sheet("name", title="What", caption="So many: 5 %.", height=2.0)
        drawing.axes(1, 0.5, 2, 1).plot([0, 1])
    return drawing


@pytest.mark.parametrize(("points", "height"), [(9.6, 2.0), (4.8, 1.0)])
def test_a_sheet_is_as_wide_as_asked_and_as_high_as_its_font_needs(points, height):
    drawing = drawn(FigureStyle("paper", 4, points))
    assert drawing.figure.get_size_inches() == pytest.approx((4, height))
    (axes,) = drawing.figure.axes
    box = axes.get_position()
    assert box.height * 2 == pytest.approx(1)  # of a layout 2 inches high
    assert box.y1 == pytest.approx(0.75)


def test_files_are_the_same_every_time_and_the_caption_is_text_beside_them(tmp_path):
    style, contents = FigureStyle("paper"), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with drawing_style(style):
            paths = save(drawn(style), tmp_path / name, ENDINGS["paper"])
        assert [path.name for path in paths] == ["name.png", "name.svg", "name.pdf", "name.txt"]
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert contents[0][-1].decode("utf-8") == "What. So many: 5\N{NO-BREAK SPACE}%.\n"


def test_panels_that_do_not_fit_side_by_side_are_in_rows():
    with drawing_style(FigureStyle("page", 7.0)):
        assert grid_of(8, 2.0, 3) == (3, 3)
        assert grid_of(2, 2.0, 3) == (2, 1)
        assert grid_of(3, 9.0, 3) == (1, 3)
