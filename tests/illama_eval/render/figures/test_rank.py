from dataclasses import replace

from msgspec import structs

from illama_eval.render.figures.rank import draw_rank_by_layer
from illama_eval.render.style.figure import drawing_style


def test_two_models_with_the_same_ranks_are_one_line_that_names_both(texts_of, run_of):
    run = run_of(layers=2, heads=2, tokens=65, subjects=("a",))
    rows = (*run.rows, *(structs.replace(row, subject="b") for row in run.rows))
    with drawing_style():
        (alone,) = draw_rank_by_layer(run)
        (both,) = draw_rank_by_layer(replace(run, rows=rows))
        words = [text for text, _ in texts_of(both.figure)]
    assert [
        sum(line.get_transform() != axes.transAxes for line in axes.lines)
        for axes in (both.figure.axes[0], alone.figure.axes[0])
    ] == [3, 3]
    assert "a, b (identical)" in words
