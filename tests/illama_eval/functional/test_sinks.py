"""Which patches are background, and how the sinks on them are counted."""

from __future__ import annotations

import torch

from illama.observation import LayerSeen
from illama_eval.functional.sinks import background_of, count_background


def layer(background, tokens=5, patches=slice(1, 5)):
    return LayerSeen(
        index=1,
        open=torch.ones(tokens, tokens, dtype=torch.bool),
        class_index=0,
        image_tokens=patches,
        background=background,
    )


def test_a_patch_is_background_by_more_than_half_of_its_pixels():
    pixels = torch.tensor([[[1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]]]).bool()
    assert background_of(layer(pixels)).tolist() == [[True, False, False, True]]


def test_nothing_is_said_without_masks_or_a_square_of_patches():
    assert background_of(layer(None)) is None
    assert background_of(layer(torch.ones(1, 4, 4).bool(), tokens=4, patches=slice(1, 4))) is None


def test_only_sinks_on_patches_are_counted():
    background = torch.tensor([[True, False, False, False], [False, False, False, True]])
    key = torch.tensor([[1, 0, 2], [4, 4, 1]])  # token 0 is the class token
    sinks = torch.tensor([[True, True, True], [True, False, True]])
    found = count_background(background, sinks, key, first=1)
    assert found["sink_background"].tolist() == [[[1, 1], [0, 0], [0, 1]], [[1, 1], [0, 0], [0, 1]]]
    assert found["background_patches"].tolist() == [[[1, 4]], [[1, 4]]]
