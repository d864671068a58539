import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from illama_eval.render.figures.labels import drawn_once, spread


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted), st.floats(0.001, 0.08))
def test_labels_are_moved_apart_and_keep_their_order(places, gap):
    moved = spread(places, gap)
    assert all(later - sooner >= gap * 0.999 for sooner, later in itertools.pairwise(moved))
    assert min(moved) > -1e-9
    assert max(moved) < 1 + 1e-9
    if all(later - sooner >= gap for sooner, later in itertools.pairwise(places)):
        assert moved == pytest.approx(places)


def test_lines_of_the_same_numbers_are_drawn_once_under_all_their_names():
    gap = np.array([1.0, np.nan])
    lines = [("a", [gap]), ("b", [gap + 1]), ("c", [gap.copy()]), ("d", [gap[:1]])]
    assert drawn_once(lines) == {0: "a, c (identical)", 1: "b", 3: "d"}
    assert drawn_once([]) == {}
