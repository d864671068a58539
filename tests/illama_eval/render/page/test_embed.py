from __future__ import annotations

import json

from illama.figure_style import PAPER, TEXT
from illama_eval.render.figures.canvas import sheet
from illama_eval.render.page.embed import embed_data, embed_figure
from illama_eval.render.style.figure import drawing_style
from illama_eval.render.style.palette import ON_BRIGHT


def test_data_cannot_end_its_element():
    text = embed_data({"</script><!--": ["&lt;", "]]>"]})
    assert not set(text) & set("<>&")
    assert json.loads(text) == {"</script><!--": ["&lt;", "]]>"]}


def test_words_on_a_colour_keep_theirs_and_others_follow_the_theme():
    with drawing_style():
        drawing = sheet("x", title="x", caption="x", height=1)
        for colour in (PAPER, ON_BRIGHT, TEXT):
            drawing.figure.text(0.5, 0.5, colour, color=colour)
        svg = str(embed_figure(drawing, "f", "c"))
    white, dark, plain = (
        svg[svg.rindex("<text", 0, svg.index(f">{colour}<")) : svg.index(f">{colour}<")]
        for colour in (PAPER, ON_BRIGHT, TEXT)
    )
    assert 'fill="#ffffff"' in white
    assert f'fill="{ON_BRIGHT.lower()}"' in dark
    assert 'class="f-text"' in plain
    assert "fill=" not in plain
