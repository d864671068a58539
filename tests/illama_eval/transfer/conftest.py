"""Features of four classes that a probe can learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

CLASSES = 4


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a function that draws features [image, channel] of unlike scales, and labels."""

    def make(images: int = 240, channels: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(images) % CLASSES
        centres = torch.randn(CLASSES, channels, generator=generator)
        noise = torch.randn(images, channels, generator=generator)
        scales = torch.logspace(-0.5, 0.5, channels)
        return (0.5 * centres[labels] + noise) * scales + 3, labels

    return make
