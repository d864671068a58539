"""The segmentation model: an UperNet head (Xiao et al. 2018) on an iLLaMA backbone.

As the paper trains it on ADE20K (Table 10 and released history): features of four blocks without
the class token, resized to four scales, pooled, and merged from coarse to fine; an auxiliary head
on the third of them. The causal mask stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from illama.config import Config
from illama.model import Model, resize_positions

PAPER_BLOCKS = (4, 6, 8, 12)
"""Blocks, from 1, of a model of 12 whose output is used."""
POOLED = (1, 2, 3, 6)
"""Sides of the pooled maps of the coarsest feature."""
AUXILIARY_CHANNELS = 256
AUXILIARY_FEATURE = 2
"""Which of the four features the auxiliary head sees, from 0."""
DROPOUT = 0.1


class Segmented(NamedTuple):
    """The outputs for one batch."""

    logits: Tensor
    """[image, class, row, column] at a quarter of the patch size's coarseness."""
    auxiliary: Tensor | None
    """The same from the auxiliary head, one score per patch; None outside training."""


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """The architecture of a segmenter.

    Raises:
        ValueError: a count is not positive, or a block does not exist.
    """

    backbone: Config
    classes: int
    blocks: tuple[int, ...] = field(default=())
    """The four blocks, from 1; empty: those of the paper, scaled to the depth."""

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"segmenter: classes={self.classes} must be positive")
        if not self.blocks:
            object.__setattr__(self, "blocks", scaled_blocks(self.backbone.depth))
        fits = len(self.blocks) == len(PAPER_BLOCKS) and list(self.blocks) == sorted(
            set(self.blocks)
        )
        if not fits or not 1 <= self.blocks[0] <= self.blocks[-1] <= self.backbone.depth:
            raise ValueError(
                f"segmenter: blocks={list(self.blocks)} are not four of 1 to {self.backbone.depth}"
            )


def scaled_blocks(depth: int) -> tuple[int, ...]:
    """Return the paper's blocks 4, 6, 8 and 12 of 12 at the same relative depth.

    Raises:
        ValueError: fewer than four blocks.
    """
    if depth < len(PAPER_BLOCKS):
        raise ValueError(f"segmenter: needs four blocks, and the backbone has {depth}")
    last = PAPER_BLOCKS[-1]
    return tuple(
        max(index, round(block * depth / last)) for index, block in enumerate(PAPER_BLOCKS, start=1)
    )


def convolve(inputs: int, outputs: int, side: int = 1) -> nn.Sequential:
    """Return a convolution without bias, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps [image, channel, row, column] at another size, bilinear between pixel centres."""
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


class Pyramid(nn.Module):
    """From four features of one scale to four scales: 4x, 2x, 1x and half of the patch grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            (
                nn.Sequential(
                    nn.ConvTranspose2d(width, width, 2, 2),
                    nn.BatchNorm2d(width),
                    nn.GELU(),
                    nn.ConvTranspose2d(width, width, 2, 2),
                ),
                nn.ConvTranspose2d(width, width, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2),
            )
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the scaled features, finest first."""
        return [level(each) for level, each in zip(self.levels, features, strict=True)]


class UperNet(nn.Module):
    """Pyramid pooling on the coarsest feature, then merged with the finer ones, top down."""

    def __init__(self, width: int, channels: int, classes: int) -> None:
        super().__init__()
        count = len(PAPER_BLOCKS)
        self.pooled = nn.ModuleList(convolve(width, channels) for _ in POOLED)
        self.bottleneck = convolve(width + len(POOLED) * channels, channels, 3)
        self.lateral = nn.ModuleList(convolve(width, channels) for _ in range(count - 1))
        self.smooth = nn.ModuleList(convolve(channels, channels, 3) for _ in range(count - 1))
        self.fuse = convolve(count * channels, channels, 3)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits [image, class, row, column] at the finest feature's size."""
        joined = [lateral(each) for lateral, each in zip(self.lateral, features, strict=False)]
        joined.append(self._pool(features[-1]))
        for index in range(len(joined) - 1, 0, -1):
            finer = joined[index - 1]
            joined[index - 1] = finer + resize(joined[index], finer.shape[2:])
        smooth = [each(level) for each, level in zip(self.smooth, joined, strict=False)]
        levels = [resize(each, joined[0].shape[2:]) for each in (*smooth, joined[-1])]
        logits: Tensor = self.classify(self.dropout(self.fuse(torch.cat(levels, dim=1))))
        return logits

    def _pool(self, coarsest: Tensor) -> Tensor:
        size = coarsest.shape[2:]
        pooled = [
            resize(convolution(functional.adaptive_avg_pool2d(coarsest, side)), size)
            for side, convolution in zip(POOLED, self.pooled, strict=True)
        ]
        joined: Tensor = self.bottleneck(torch.cat((coarsest, *pooled), dim=1))
        return joined


class Segmenter(nn.Module):
    """An iLLaMA without its head, and UperNet on top (paper, section 4.4)."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.segmenter_config = config
        self.backbone = Model(config.backbone)
        self.backbone.norm = nn.Identity()  # type: ignore[assignment]  # features come before it
        self.backbone.head = nn.Identity()  # type: ignore[assignment]
        width = config.backbone.width
        self.pyramid = Pyramid(width)
        self.decoder = UperNet(width, width, config.classes)
        self.auxiliary = nn.Sequential(
            convolve(width, AUXILIARY_CHANNELS, 3),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(AUXILIARY_CHANNELS, config.classes, 1),
        )

    @property
    def config(self) -> Config:
        """The backbone's architecture."""
        return self.segmenter_config.backbone

    def forward(
        self, images: Tensor, soft_mask: float = 0.0, kept: Tensor | None = None
    ) -> Segmented:
        """Return logits of normalised square images [image, 3, row, column] of the config's size.

        `kept` as in `Model.forward`.

        Raises:
            ValueError: the images have another size.
        """
        features = self.observe(images, soft_mask, kept)
        auxiliary = self.auxiliary(features[AUXILIARY_FEATURE]) if self.training else None
        return Segmented(self.decoder(self.pyramid(features)), auxiliary)

    def observe(
        self, images: Tensor, soft_mask: float = 0.0, kept: Tensor | None = None
    ) -> list[Tensor]:
        """Return the four blocks' image tokens as maps [image, channel, row, column]."""
        backbone, config = self.backbone, self.config
        tokens = backbone.embed(images)
        path = backbone.resolve_path(tokens.device)
        seen = []
        of_block = [None] * config.depth if kept is None else kept
        for index, block in enumerate(backbone.blocks[: self.segmenter_config.blocks[-1]], start=1):
            own = of_block[index - 1]
            tokens = block(
                tokens, backbone.masking, backbone.rotary, soft_mask, path=path, kept=own
            )
            if index in self.segmenter_config.blocks:
                seen.append(self._to_map(tokens))
        return seen

    def _to_map(self, tokens: Tensor) -> Tensor:
        """Return image tokens as a map; the class token is the first or the last."""
        config = self.config
        image = tokens[:, 1:] if config.class_index == 0 else tokens[:, :-1]
        shape = (len(image), config.width, config.grid, config.grid)
        return image.transpose(1, 2).reshape(shape)

    def with_image_size(self, image_size: int) -> Segmenter:
        """Return the same segmenter for another input size; the class token's position stays."""
        config = replace(self.segmenter_config, backbone=self.config.with_image_size(image_size))
        resized = Segmenter(config).to(self.backbone.class_token.device)
        state = self.state_dict()
        name = "backbone.position_embedding"
        if name in state:
            state[name] = resize_positions(state[name], self.config, config.backbone)
        resized.load_state_dict(state)
        return resized.train(self.training)

    def recompute_blocks(self) -> None:
        """Recompute blocks in the backward pass instead of keeping their activations."""
        self.backbone.recompute_blocks()

    def prepare_to_compile(self, dtype: torch.dtype | None = None) -> str:
        """Prepare the backbone; return its note."""
        return self.backbone.prepare_to_compile(dtype)
