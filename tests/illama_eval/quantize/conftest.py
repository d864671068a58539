"""A small model whose weights are worth quantizing, and images for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from illama.config import Config
from illama.model import Model
from illama.transforms import evaluation_transform
from illama_eval.quantize.calibration import CalibrationSet
from illama_eval.subjects.checkpoint import ModelSubject

SIDE = 32


@pytest.fixture(scope="session")
def make_subject() -> Callable[..., ModelSubject]:
    """Return a function that makes a subject of uneven weights, with changes to its config."""

    def make(**changes: object) -> ModelSubject:
        torch.manual_seed(0)
        config = Config(image_size=SIDE, patch_size=8, width=64, depth=3, heads=2, classes=16)
        model = Model(Config.from_dict({**config.to_dict(), **changes})).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.mul_(2)
                elif "norm" in name and name.endswith("weight"):
                    parameter.add_(torch.rand_like(parameter) * 4)
        return ModelSubject(
            name="tested",
            model=model,
            transform=evaluation_transform(SIDE, "model"),
            provenance={"weights_sha256": "0" * 64, "file": "tested.pth"},
        )

    return make


@pytest.fixture(scope="module")
def subject(make_subject: Callable[..., ModelSubject]) -> ModelSubject:
    return make_subject()


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.randn(16, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def calibration(images: Tensor) -> CalibrationSet:
    return CalibrationSet(images=images, record={"images": len(images)})
