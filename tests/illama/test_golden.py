"""The released model's numbers, recorded from the released code on random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import illama
from illama.observation import LayerSeen

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CHECKPOINT = GOLDEN / "official_micro.pth"
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def recorded() -> Mapping[str, np.ndarray]:
    with np.load(GOLDEN / "official_micro.npz") as arrays:
        return dict(arrays)


def relative(seen: torch.Tensor, recorded: np.ndarray) -> float:
    """Return the largest difference, relative to the largest recorded number."""
    return float(np.abs(seen.detach().numpy() - recorded).max() / np.abs(recorded).max())


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("soft_mask", [0.0, 0.5, 1.0])
def test_logits_are_the_released_ones(recorded, soft_mask, path):
    model = illama.load(CHECKPOINT)
    model.path = path
    logits = model(torch.from_numpy(recorded["images"]), soft_mask)
    assert relative(logits, recorded[f"logits_soft_{soft_mask}"]) < TOLERANCE


def test_attention_and_block_outputs_are_the_released_ones(recorded):
    model = illama.load(CHECKPOINT)
    pieces = list(model.observe(torch.from_numpy(recorded["images"]), {"used", "tokens"}))
    layers = [piece for piece in pieces if isinstance(piece, LayerSeen)]
    used = torch.stack([layer.used for layer in layers])
    tokens = torch.stack([layer.tokens for layer in layers])
    assert relative(used, recorded["attention"]) < TOLERANCE
    assert relative(tokens, recorded["block_outputs"]) < TOLERANCE


def test_positions_resized_to_96_pixels_give_the_released_logits(recorded):
    model = illama.load(CHECKPOINT, image_size=96)
    logits = model(torch.from_numpy(recorded["images_96"]))
    assert relative(logits, recorded["logits_96"]) < TOLERANCE


def test_a_model_loaded_with_soft_mask_1_is_bidirectional_without_being_told(recorded):
    model = illama.load(CHECKPOINT, soft_mask=1)
    logits = model(torch.from_numpy(recorded["images"]))
    assert model.config.masking == "none"
    assert relative(logits, recorded["logits_soft_1.0"]) < TOLERANCE
