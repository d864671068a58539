"""Pages of docs/ that are made from the source say what the source says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("make_api", ("### `illama_eval.evaluate(", "Raises:\n\n- `")),
        ("make_studies", ("## Calibration (`calibration`)", "| top-1 accuracy |")),
    ],
)
def test_a_page_made_from_the_source_is_up_to_date(name, said):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), f"run python docs/{name}.py"
    for text in said:
        assert text in made.page()
