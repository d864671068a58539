from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from illama.segmentation_metrics import IGNORED, count_areas


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_areas_are_those_of_a_plain_loop(seed):
    random = np.random.default_rng(seed)
    guess, truth = random.integers(0, 4, (2, 3, 5, 6))
    truth[random.random(truth.shape) < 0.2] = IGNORED
    counted = count_areas(torch.tensor(guess), torch.tensor(truth), 4).numpy()
    for image in range(3):
        for klass in range(4):
            kept = truth[image] != IGNORED
            mine, true = (guess[image] == klass) & kept, truth[image] == klass
            assert counted[image, :, klass].tolist() == [
                (mine & true).sum(),
                mine.sum(),
                true.sum(),
            ]
