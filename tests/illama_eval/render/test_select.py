from __future__ import annotations

import numpy as np
import pytest

from illama_eval.render.select import (
    class_names,
    direction,
    head_grid,
    headline,
    headline_value,
    images_of,
    layer_values,
    parameter,
    range_of_heads,
    rows_at,
    studies_measured,
    subjects_of,
)
from illama_eval.results import Row, Run


def row(value, study="rank", metric="m", images=9, **at):
    return Row(subject="a", study=study, metric=metric, value=value, images=images, at=at)


@pytest.fixture
def run():
    """Return three layers of two heads, of which the middle layer lacks a number."""
    rows = [row(10.0 * layer + head, layer=layer, head=head) for layer in (1, 3) for head in (1, 2)]
    rows += [row(None, layer=2, head=1), row(7.0), row(1.0, layer=1, head=1, map="softmax")]
    rows += [row(0.5, study="accuracy", metric="top1", images=12)]
    header = {
        "metrics": {"accuracy": {"top1": {"better": "higher"}, "other": {"better": "sideways"}}},
        "identity": {"studies": {"rank": {"threshold": 0.9, "name": "x"}}},
        "source": {"classes": ["cat", 3]},
    }
    return Run(header=header, rows=tuple(rows))


def test_a_grid_has_a_gap_where_nothing_is_defined_and_no_size_where_nothing_is(run):
    grid = head_grid(run, "rank", "m", "a")
    assert np.array_equal(grid, [[11, 12], [np.nan, np.nan], [31, 32]], equal_nan=True)
    assert head_grid(run, "rank", "m", "a", map="softmax").tolist() == [[1]]
    assert head_grid(run, "rank", "m", "b").shape == (0, 0)


def test_a_metric_by_head_becomes_means_by_layer_and_one_by_layer_stays(run):
    found = layer_values(run, "rank", "m", "a")
    assert np.array_equal(found, [11.5, np.nan, 31.5], equal_nan=True)
    own = Run(header={}, rows=(row(2.0, layer=2), row(None, layer=1), row(9.0, layer=2, head=1)))
    found = layer_values(own, "rank", "m", "a")
    assert np.array_equal(found, [np.nan, 2.0], equal_nan=True)
    assert layer_values(own, "rank", "n", "a").size == 0


def test_the_range_of_heads_is_nan_only_where_no_head_is_defined():
    grid = np.array([[1.0, 3.0], [np.nan, 5.0], [np.nan, np.nan]])
    low, high = range_of_heads(grid)
    assert np.array_equal(low, [1, 5, np.nan], equal_nan=True)
    assert np.array_equal(high, [3, 5, np.nan], equal_nan=True)


def test_rows_are_chosen_by_exactly_their_keys(run):
    keys = ("layer", "head")
    assert len(rows_at(run, "rank", "m", "a", keys)) == 5
    assert [each.value for each in rows_at(run, "rank", "m", "a", keys, map="softmax")] == [1.0]
    assert rows_at(run, "rank", "m", "a", keys, map="masked") == []
    assert headline(run, "rank", "m", "a").value == headline_value(run, "rank", "m", "a") == 7
    assert headline_value(run, "rank", "m", "b") is None


def test_the_header_answers_where_it_is_written_as_expected(run):
    assert parameter(run, "rank", "threshold", 0.8) == 0.9
    assert parameter(run, "rank", "name", 0.8) == parameter(run, "none", "x", 0.8) == 0.8
    assert direction(run, row(1.0, study="accuracy", metric="top1")) == "higher"
    assert direction(run, row(1.0, study="accuracy", metric="other")) is None
    assert class_names(run) == ["cat", "3"]
    assert class_names(Run(header={"source": None}, rows=())) == []


def test_subjects_and_studies_are_in_the_order_of_the_run(run):
    assert (subjects_of(run), studies_measured(run)) == (["a"], ["rank", "accuracy"])
    assert (images_of(run, "accuracy"), images_of(run, "other")) == ("12 images", "0 images")
