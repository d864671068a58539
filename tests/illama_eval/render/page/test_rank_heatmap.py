from __future__ import annotations

import itertools

import numpy as np

from illama_eval.render.models import load_models
from illama_eval.render.page.rank_heatmap import heat_maps


def test_one_layer_of_one_head_is_enough(run_of, page_of):
    page = page_of(run_of(layers=1, heads=1, tokens=5))
    assert [cell.text.strip() for cell in page.one("table", id="m0").all("td")[1:]] == ["2"]
    assert page.one("figure", class_="heats").attributes["data-tokens"] == "5"


def test_every_cell_of_the_heat_map_has_its_curve(run_of, write):
    lineup = load_models([write(run_of(layers=3, heads=2, tokens=65))])
    heat = heat_maps(lineup, "rank-layer-head-map")
    assert [panel.title for panel in heat.panels] == [
        "used map",
        "softmax, masked",
        "softmax, all keys",
    ]
    for panel in heat.panels:
        curves = heat.curves[panel.key]
        assert len(curves["y"]) == 6
        for cell, y in zip(itertools.chain(*panel.cells), curves["y"], strict=True):
            rank, x = int(cell.text), np.array(curves["x"])
            assert y[-1] == 1000
            assert np.interp(rank, x, y) >= 785
            assert np.interp(rank - 1, x, y) <= 805
    assert [tone for tone, _ in heat.legend] == [f"q{number}" for number in range(7)]
