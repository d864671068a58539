from __future__ import annotations

import pytest
import torch

from illama.config import Config
from illama.upernet import Segmenter, SegmenterConfig, scaled_blocks

TINY = Config(image_size=16, patch_size=4, width=16, depth=4, heads=2, classes=1)


@pytest.mark.parametrize(("size", "parameters"), [("tiny", 10_864_556), ("base", 163_222_316)])
def test_the_parameters_are_those_of_the_paper(size, parameters):
    """Table 10 says 10.86 M and 163.22 M: without final norm and head, with the auxiliary head."""
    backbone = Config.at("soft-mask", size, image_size=512, classes=1)
    with torch.device("meta"):
        built = Segmenter(SegmenterConfig(backbone=backbone, classes=150))
    assert sum(each.numel() for each in built.parameters()) == parameters
    assert built.segmenter_config.blocks == (4, 6, 8, 12)


def test_blocks_are_scaled_to_the_depth():
    assert scaled_blocks(24) == (8, 12, 16, 24)
    assert scaled_blocks(6) == (2, 3, 4, 6)
    assert scaled_blocks(4) == (1, 2, 3, 4)
    with pytest.raises(ValueError, match="needs four blocks"):
        scaled_blocks(3)
    with pytest.raises(ValueError, match=r"blocks=\[1, 2, 3, 5\]"):
        SegmenterConfig(backbone=TINY, classes=5, blocks=(1, 2, 3, 5))


def test_logits_are_four_times_as_fine_as_the_patches(segmenter):
    images = torch.randn(2, 3, 16, 16)
    assert segmenter(images).logits.shape == (2, 5, 16, 16)
    assert segmenter(images).auxiliary is None
    assert segmenter.train()(images).auxiliary.shape == (2, 5, 4, 4)


@pytest.mark.parametrize("step", ["soft-mask", "vit"])
def test_features_are_the_image_tokens_in_raster_order_without_the_class_token(step):
    torch.manual_seed(0)
    config = Config.at(step, "nano", depth=4, width=24, classes=1)
    built = Segmenter(SegmenterConfig(backbone=config, classes=3)).eval()
    images = torch.randn(2, 3, 32, 32)
    maps = built.observe(images)
    seen = [
        piece.tokens
        for piece in built.backbone.observe(images, {"tokens"})
        if hasattr(piece, "tokens")
    ]
    for found, tokens in zip(maps, seen, strict=True):
        image = tokens[:, 1:] if config.class_token == "first" else tokens[:, :-1]
        torch.testing.assert_close(found[:, :, 2, 5], image[:, 2 * 8 + 5])


def test_another_size_keeps_the_class_tokens_position(segmenter):
    larger = segmenter.with_image_size(32)
    old, new = (each.backbone.position_embedding for each in (segmenter, larger))
    assert new.shape == (1, 65, 16)
    torch.testing.assert_close(new[:, -1], old[:, -1])
    assert larger(torch.randn(1, 3, 32, 32)).logits.shape == (1, 5, 32, 32)
