"""What a study finds in a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from illama.model import Model
from illama.observation import Batch
from illama_eval.study import Study, StudyResult, Sums, accumulate


@pytest.fixture(scope="session")
def measure_model(
    make_batch: Callable[..., Batch],
) -> Callable[[Study, Model, Tensor], StudyResult]:
    """Return a function that runs a study over what a model shows of images."""

    def measure(study: Study, model: Model, images: Tensor) -> StudyResult:
        total: Sums = {}
        batch = make_batch(torch.zeros(len(images)))
        with torch.no_grad():
            for piece in model.observe(images, study.wants):
                accumulate(total, study.measure(replace(piece, batch=batch)))
        return study.summarize(total)

    return measure
