from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def save():
    """A function that writes a small picture of one red, making the folders on the way."""

    def write(path: Path, value: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (value, 0, 0)).save(path)
        return path

    return write
