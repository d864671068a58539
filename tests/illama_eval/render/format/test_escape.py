import pytest

from illama_eval.render.format.escape import csv_cell


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t="])
def test_no_cell_begins_a_formula(start):
    assert csv_cell(f"{start}1+1").startswith("'")
