"""The committed table of timm's architectures: what it claims, and that a part still holds."""

from __future__ import annotations

import random
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "architectures.md"
REFUSED = 7
DRAWN = 24


def rows() -> dict[str, tuple[str, ...]]:
    """Return the table's cells by architecture."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| architecture")) + 2
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[start:]]
    return {name: tuple(others) for name, *others in cells}


def test_attention_of_nearly_all_of_timms_vision_transformers_is_seen() -> None:
    found = rows()
    assert len(found) == 307
    refused = {name: notes for name, (seen, _, notes) in found.items() if seen == "no"}
    assert len(refused) == REFUSED
    assert all("attends within windows" in refused[name] for name in refused if "samvit" in name)
    assert found["vit_base_patch16_224"][1] == "1, with a class token"
    assert found["vit_base_patch16_siglip_224"][1] == "0"
    assert found["vit_small_patch16_dinov3"][1] == "5, with a class token"


@pytest.mark.slow
def test_the_table_of_architectures_holds(reference: Callable[[str], Any]) -> None:
    if reference("timm").__version__ not in PAGE.read_text("utf-8"):
        pytest.skip("the table is of another timm")
    script = runpy.run_path(str(ROOT / "benchmarks" / "architectures.py"))
    expected = rows()
    drawn = random.Random(0).sample(sorted(expected), DRAWN)
    named = [name for name, (seen, _, _) in expected.items() if seen == "no" and "d" in name[:6]]
    for name in [*drawn, *named]:
        assert script["outcome_of"](name).cells[1:] == expected[name], name
