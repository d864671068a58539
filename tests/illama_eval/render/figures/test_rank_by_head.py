from __future__ import annotations

import numpy as np
import pytest

from illama_eval.render.attention_maps import maps_of
from illama_eval.render.figures.rank_by_head import draw_rank_by_head
from illama_eval.render.style.figure import drawing_style


def test_every_head_is_joined_to_its_control_on_one_scale_to_the_largest_rank(run_of):
    run = run_of(layers=2, heads=3, tokens=65, subjects=("a", "b"))
    with drawing_style():
        sheets = list(draw_rank_by_head(run))
    assert [sheet.name for sheet in sheets] == ["rank_by_head", "rank_by_head-2"]
    top = max(np.nanmax(maps.ranks) for maps in maps_of(run))
    for sheet, subject in zip(sheets, ("a", "b"), strict=True):
        (axes,) = sheet.figure.axes
        assert axes.get_xlim() == pytest.approx((0, 1.04 * top))
        mine = {maps.kind: maps.ranks for maps in maps_of(run) if maps.subject == subject}
        joined = np.concatenate([each.get_segments() for each in axes.collections])[:, :, 0]
        ranks = np.array([each.ravel() for each in mine.values()])
        assert joined == pytest.approx(np.sort([ranks.min(0), ranks.max(0)], axis=0).T)


def test_many_layers_are_in_two_columns_that_hold_each_layer_once(run_of):
    with drawing_style():
        (drawing,) = draw_rank_by_head(run_of(layers=15, heads=2, tokens=9))
    shown = [label.get_text() for axes in drawing.figure.axes for label in axes.get_yticklabels()]
    assert shown == [str(layer) for layer in range(1, 16)]
