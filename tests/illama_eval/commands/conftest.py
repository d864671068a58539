"""Images to train and to calibrate on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def training_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an .npz of other noise images than those that are reported on."""
    random = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("training") / "train.npz"
    np.savez(
        path,
        images=random.integers(0, 256, (70, 64, 64, 3), dtype=np.uint8),
        labels=random.integers(0, 10, 70),
        ids=np.array([f"train/{i:03d}" for i in range(70)]),
    )
    return path
