from illama_eval.render.figures.canvas import drawing_style
from illama_eval.render.figures.rank import draw_rank_by_head


def test_ranks_share_one_absolute_scale(run_of):
    run = run_of(layers=2, heads=2, tokens=65, subjects=("a", "b"))
    with drawing_style():
        sheets = list(draw_rank_by_head(run))
    assert [sheet.name for sheet in sheets] == ["rank_by_head", "rank_by_head-2"]
    for sheet in sheets:
        for axes in sheet.figure.axes[:-1]:
            (mesh,) = axes.collections
            assert (mesh.norm.boundaries[0], mesh.norm.boundaries[-1]) == (1, 65)
