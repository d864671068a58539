import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from illama_eval.render.style.fonts import FAMILY, drawable, text_width, wrap


@given(st.text(max_size=60), st.floats(4, 20))
def test_a_line_is_as_wide_as_matplotlib_sets_it(text, size):
    text = drawable(f"To. AV, {text}")
    font = FontProperties(family=FAMILY, size=size)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    assert text_width(text, size) == pytest.approx(1.02 * width / 72)


@given(st.text(max_size=60))
def test_wrapped_lines_fit_and_lose_no_letter(text):
    text = drawable(text)
    lines = wrap(text, 8, 0.8)
    assert all(text_width(line, 8) <= 0.8 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
