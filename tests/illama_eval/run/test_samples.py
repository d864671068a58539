from __future__ import annotations

from pathlib import Path

import numpy as np


def test_samples_hold_eight_images_and_a_map_per_layer(whole: Path) -> None:
    with np.load(whole / "samples.npz") as samples:
        assert samples["images"].shape == (8, 64, 64, 3)
        assert samples["attention"].shape == (8, 3, 4, 4)
        assert (samples["attention"].max((2, 3)) == 255).all()
