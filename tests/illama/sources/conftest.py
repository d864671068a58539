from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from illama.sources import demo


@pytest.fixture(scope="session")
def save():
    """A function that writes a small picture of one red, making the folders on the way."""

    def write(path: Path, value: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (value, 0, 0)).save(path)
        return path

    return write


@pytest.fixture
def painted(monkeypatch):
    """A list that grows with every image of the demo whose pixels are computed."""
    paint, calls = demo._paint, []

    def count(chunk, index):
        calls.append(index)
        return paint(chunk, index)

    monkeypatch.setattr(demo, "_paint", count)
    return calls
