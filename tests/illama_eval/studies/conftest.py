"""What a study finds in a model."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from illama.model import Model
from illama.observation import Batch
from illama.sources.source import Source, make_source
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


@pytest.fixture(scope="session")
def cifar10(shared: Path) -> Source:
    """Return the 10,000 test images of CIFAR-10 with their labels."""
    with np.load(shared / "data" / "cifar10" / "cifar10_full_jpeg.npz") as archive:
        packed, ends = archive["jpeg_test"].tobytes(), archive["offset_test"].tolist()
        labels = archive["y_test"].astype(np.int64)

    def read(position: int) -> NDArray[np.uint8]:
        image = Image.open(io.BytesIO(packed[ends[position] : ends[position + 1]]))
        return np.asarray(image.convert("RGB"))

    return make_source(
        name="cifar10",
        split="test",
        names=[f"test/{number:05d}" for number in range(len(labels))],
        labels=labels,
        contents=range(len(labels)),
        read=read,
        in_memory=True,
    )
