import pytest
from hypothesis import given
from hypothesis import strategies as st

from illama_eval.render.format.escape import break_name, csv_cell, sanitize


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t="])
def test_no_cell_begins_a_formula(start):
    assert csv_cell(f"{start}1+1").startswith("'")


@given(st.text(max_size=60))
def test_a_broken_name_fits_and_loses_no_letter(text):
    text = sanitize(text)
    lines = break_name(text, 12)
    assert all(len(line) <= 12 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_name_is_broken_at_its_joints():
    assert break_name("nano+w8a8-static-smooth0.5", 18) == ["nano+w8a8-static-", "smooth0.5"]
