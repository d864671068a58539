"""Rows and curves: their names, and what they refuse."""

from __future__ import annotations

import pytest
from msgspec import structs

from illama_eval.results import CURVE_POINTS, Curve, name_of


def test_rows_at_different_places_have_different_names(make_run):
    first, second = make_run().rows
    assert name_of(first) != name_of(second)
    swapped = structs.replace(second, at={"map": "softmax", "head": 2, "layer": 1})
    assert name_of(swapped) == name_of(second)


@pytest.mark.parametrize("points", [0, CURVE_POINTS + 1])
def test_a_curve_has_1_to_64_points(points):
    with pytest.raises(ValueError, match="1 to 64"):
        Curve(name="c", x=(0.0,) * points, y=(0.0,) * points)


def test_a_curve_has_as_many_x_as_y():
    with pytest.raises(ValueError, match="pairs"):
        Curve(name="c", x=(0.0, 1.0), y=(0.0,))


def test_a_curve_is_one_line_in_a_notebook():
    curve = Curve(subject="a", study="s", name="c", at={"layer": 2}, x=(0.0, 1.0), y=(0.0, 1.0))
    assert repr(curve) == "<Curve a: s.c[layer=2], 2 points>"
