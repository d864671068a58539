from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from illama_eval.render.attention_maps import (
    drawn_together,
    maps_of,
    rank_method,
    show_rank,
    threshold_of,
)


def test_maps_hold_the_ranks_of_the_rows_and_the_curves_of_their_heads(run_of):
    run = run_of(layers=3, heads=2, tokens=17)
    used, masked, softmax = maps_of(run)
    assert [maps.kind for maps in (used, masked, softmax)] == ["used", "masked", "softmax"]
    assert used.tokens == 17
    for (layer, head), rank in np.ndenumerate(masked.ranks):
        at = {"layer": layer + 1, "head": head + 1, "map": "masked"}
        assert rank == run.value("rank", "rank_of_mean_map", **at).value
    x, percent = used.lines(2)
    assert (x[0], x[-1], percent.shape) == (1, 17, (2, 17))
    assert (np.diff(percent) >= 0).all()
    assert percent[:, -1] == pytest.approx(100)
    assert used.lines(4) is None


def test_the_median_of_a_layer_leaves_out_what_is_undefined(run_of):
    (maps, *_) = maps_of(run_of(layers=2, heads=3))
    ranks = np.array([[1.0, np.nan, 5.0], [np.nan] * 3])
    assert np.array_equal(replace(maps, ranks=ranks).median, [3, np.nan], equal_nan=True)


def test_controls_are_drawn_for_two_subjects_and_not_for_three(run_of):
    two, three = (run_of(subjects=tuple("abc"[:count])) for count in (2, 3))
    assert len(drawn_together(two)) == 6
    assert [(maps.subject, maps.kind) for maps in drawn_together(three)] == [
        ("a", "used"),
        ("b", "used"),
        ("c", "used"),
    ]


def test_the_method_names_threshold_images_and_maps_that_are_the_same(run_of):
    run = run_of()
    found = maps_of(run)
    assert threshold_of(run) == 0.8
    assert rank_method(run, found) == (
        "Rank: how many singular values of the mean map over 10,000 images make 80 % of their sum."
    )
    assert "“softmax, all keys” equals the used map" in rank_method(run, found[:2])
    both = maps_of(run_of(subjects=("a", "b")))
    assert "compare used maps with masked ones" in rank_method(run, both)
    assert both[0].label(both) == "a: used map"
    assert found[0].label(found) == "used map"


def test_a_rank_is_shown_with_half_steps_or_as_a_dash():
    assert [show_rank(rank) for rank in (129.0, 128.5, float("nan"))] == ["129", "128.5", "—"]
