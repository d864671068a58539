"""The network: images to logits, and the same pass with its attention maps and tokens."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from illama.attention_paths import HeadShape, fused_agrees, split_fault
from illama.config import Config
from illama.incremental import PrefixState, attend_to_prefix, refuse_inexact
from illama.layers import Attention, GeluMLP, LayerNorm, Path, RMSNorm, RotaryTable, SwiGLU
from illama.masking import MASKINGS, MultiplicativeMask, Unmasked
from illama.observation import LAYER_WANTED, LayerSeen, OutputSeen, check_wanted
from illama.rollout import extend_rollout


def keep(added: Tensor, kept: Tensor | None, branch: int) -> Tensor:
    """Return what a branch adds [image, token, channel], times the factor of each image."""
    return added if kept is None else added * kept[branch, :, None, None].type_as(added)


class Block(nn.Module):
    """One pre-norm block: attention, then feed-forward, each added to its input."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        norm = RMSNorm if config.norm == "rms" else LayerNorm
        mlp = SwiGLU if config.mlp == "swiglu" else GeluMLP
        self.attention_norm = norm(config.width)
        self.attention = Attention(config.width, config.heads, rotary=config.position != "learned")
        self.feed_forward_norm = norm(config.width)
        self.feed_forward = mlp(config.width, config.hidden)

    def forward(
        self,
        tokens: Tensor,
        masking: Unmasked,
        rotary: RotaryTable | None,
        soft_mask: float = 0.0,
        rows: slice = slice(None),
        path: Path = "explicit",
        kept: Tensor | None = None,
    ) -> Tensor:
        """Return the output for `rows`, [image, row, channel]; `kept` is [branch, image]."""
        normed = self.attention_norm(tokens)
        attended = self.attention(normed, masking, rotary, soft_mask, rows, path)
        return self.feed(tokens[:, rows] + keep(attended, kept, 0), kept)

    def feed(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return tokens plus their feed-forward."""
        fed: Tensor = self.feed_forward(self.feed_forward_norm(tokens))
        return tokens + keep(fed, kept, 1)

    def forward_with_attention(
        self,
        tokens: Tensor,
        masking: Unmasked,
        rotary: RotaryTable | None,
        soft_mask: float,
        keep_softmax: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the output, the `used` map and, with `keep_softmax`, the softmax over all keys."""
        query, key, value = self.attention.split(self.attention_norm(tokens), rotary)
        scores = query @ key.transpose(-2, -1)
        if keep_softmax:
            used, softmax = masking.weights_and_softmax(scores, soft_mask)
        else:
            used, softmax = masking.attention_weights(scores, soft_mask, slice(None)), None
        return self.feed(tokens + self.attention.merge(used @ value)), used, softmax


class Sequence(NamedTuple):
    """What enters the first block, and what every block needs besides."""

    tokens: Tensor
    """[image, token, channel]"""
    masking: Unmasked
    rotary: RotaryTable | None
    class_index: int
    """Index of the class token among the tokens."""
    image_tokens: slice
    """Which tokens are patches."""


class Model(nn.Module):
    """A vision transformer at any step from ViT to iLLaMA (Wang et al. 2024).

    Args:
        config: the architecture.
        path: how attention is computed in `forward`: `explicit`, `fused`, or `auto` (fused on a
            GPU and, on a CPU, where no mask follows the softmax; otherwise explicit).
    """

    def __init__(self, config: Config, *, path: Path = "auto") -> None:
        super().__init__()
        self.config = config
        self.path: Path = path
        self.patch_embedding = nn.Conv2d(
            3, config.width, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position_embedding = (
            None
            if config.position == "rotary"
            else nn.Parameter(torch.zeros(1, config.tokens, config.width))
        )
        self.rotary = (
            None if config.position == "learned" else RotaryTable(config.tokens, config.head_width)
        )
        self.masking = MASKINGS[config.masking](config.tokens)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = (RMSNorm if config.norm == "rms" else LayerNorm)(config.width)
        self.head = nn.Linear(config.width, config.classes)
        self.initialize()

    def initialize(self) -> None:
        """Draw fresh weights: truncated normal, std 0.02; biases zero (paper, Table 12)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        if self.position_embedding is not None:
            nn.init.trunc_normal_(self.position_embedding, std=0.02)

    def forward(self, images: Tensor, soft_mask: float = 0.0, kept: Tensor | None = None) -> Tensor:
        """Return logits [image, class] of normalised images [image, 3, row, column].

        `soft_mask` (0 to 1) is the paper's alpha: 0 is causal, 1 bidirectional. `kept` [block,
        branch, image] multiplies what attention (0) and feed-forward (1) of each block add: a
        training that drops paths draws it; None drops nothing.

        Raises:
            ValueError: the images have another size than in the config, `soft_mask` is not from 0
                to 1, or the masking has no soft form and it is not 0.
        """
        logits: Tensor = self.head(self.encode(images, soft_mask, kept))
        return logits

    def encode(self, images: Tensor, soft_mask: float = 0.0, kept: Tensor | None = None) -> Tensor:
        """Return the class token after the final norm, [image, channel].

        In the last block only the class token's row is computed: nothing else reaches the head.
        """
        return self.finish(self.embed(images), soft_mask, kept)

    def finish(
        self, tokens: Tensor, soft_mask: float = 0.0, kept: Tensor | None = None, first: int = 0
    ) -> Tensor:
        """Return the class token after the final norm, from the tokens that enter block `first`.

        `first` counts from 0.
        """
        path = self.resolve_path(tokens.device)
        of_block = [None] * self.config.depth if kept is None else kept
        for block, own in zip(self.blocks[first:-1], of_block[first:], strict=False):
            tokens = block(tokens, self.masking, self.rotary, soft_mask, path=path, kept=own)
        row = slice(self.config.class_index, self.config.class_index + 1)
        last = self.blocks[-1](tokens, self.masking, self.rotary, soft_mask, row, kept=of_block[-1])
        feature: Tensor = self.norm(last)[:, 0]
        return feature

    def embed(self, images: Tensor) -> Tensor:
        """Return the token sequence that enters the first block, [image, token, channel].

        Raises:
            ValueError: the images have another size than in the config.
        """
        side = self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (3, side, side):  # noqa: PLR2004 - [image, 3, row, column]
            raise ValueError(
                f"model: expected images [image, 3, {side}, {side}], got {list(images.shape)}; "
                "load the checkpoint with image_size= to change it"
            )
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        token = self.class_token.expand(len(images), -1, -1)
        parts = (token, patches) if self.config.class_token == "first" else (patches, token)
        tokens = torch.cat(parts, dim=1)
        return tokens if self.position_embedding is None else tokens + self.position_embedding

    def observe(
        self,
        images: Tensor,
        wanted: Iterable[str],
        soft_mask: float = 0.0,
        patches: int | None = None,
    ) -> Iterator[LayerSeen | OutputSeen]:
        """Yield a LayerSeen per block, if anything of the blocks is wanted, then one OutputSeen.

        `wanted` holds names of WANTED; what only segmenters or the evaluation loop have is not
        yielded. Maps always come from the explicit product; at most two layers of them are in
        memory at a time. With `patches` the model is given so many patches alone, the first in
        raster order, at their own positions.

        Raises:
            ValueError: there are not so many patches, or the images have another size.
        """
        names = check_wanted(wanted)
        if names & LAYER_WANTED or patches is not None:
            sequence = self.sequence(images, patches)
            tokens = yield from self._observe_blocks(sequence, names, soft_mask)
            feature = self.norm(tokens[:, sequence.class_index])
        else:
            feature = self.encode(images, soft_mask)
        yield OutputSeen(
            logits=self.head(feature) if "logits" in names else None,
            features=feature if "features" in names else None,
        )

    def sequence(self, images: Tensor, patches: int | None = None) -> Sequence:
        """Return the tokens that enter the first block: of all patches, or of the first alone.

        Raises:
            ValueError: there are not so many patches, or the images have another size.
        """
        tokens, config = self.embed(images), self.config
        if patches is None:
            places = config.class_index, config.image_tokens
            return Sequence(tokens, self.masking, self.rotary, *places)
        if not 1 <= patches < config.tokens:
            raise ValueError(
                f"model: {patches} is not a number of patches, 1 to {config.tokens - 1}"
            )
        front = config.class_token == "first"
        kept = range(patches + 1) if front else (*range(patches), config.class_index)
        positions = torch.tensor(kept).to(tokens.device, non_blocking=True)
        return Sequence(
            tokens[:, positions],
            MASKINGS[config.masking](patches + 1).to(tokens.device, non_blocking=True),
            None if self.rotary is None else self.rotary.select(positions),
            0 if front else patches,
            slice(1, patches + 1) if front else slice(0, patches),
        )

    def _observe_blocks(
        self, sequence: Sequence, names: frozenset[str], soft_mask: float
    ) -> Generator[LayerSeen, None, Tensor]:
        """Yield what every block shows; return the output of the last, [image, token, channel]."""
        tokens, masking, rotary, class_index, image_tokens = sequence
        previous: Tensor | None = None
        rollout: Tensor | None = None
        for index, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            tokens, used, softmax = block.forward_with_attention(
                tokens, masking, rotary, soft_mask, "softmax" in names
            )
            rollout = extend_rollout(rollout, used) if "rollout" in names else None
            yield LayerSeen(
                index=index,
                open=masking.open(soft_mask),
                class_index=class_index,
                image_tokens=image_tokens,
                factor=masking.factor(soft_mask),
                form=masking.form(soft_mask),
                used=used if "used" in names else None,
                softmax=softmax,
                tokens=tokens if "tokens" in names else None,
                previous=previous,
                lens=self.read_off(tokens, class_index) if "lens" in names else None,
                rollout=rollout,
            )
            previous = used if "previous" in names else None
            del used, softmax
        return tokens

    def extend(self, state: PrefixState | None, strip: Tensor) -> PrefixState:
        """Return the state after further rows of patches; None is the state before the first.

        `strip` holds the next rows of the normalised images, [image, 3, row, column], whole patches
        high and as wide as the image. It costs what its own patches cost, and is exact.

        Raises:
            ValueError: the model is not strictly causal with its class token last, or the strip
                does not fit below what was seen.
        """
        self._check_incremental(state, strip)
        first = 0 if state is None else state.patches
        tokens = self.patch_embedding(strip).flatten(2).transpose(1, 2)
        places = torch.arange(first, first + tokens.shape[1], device=strip.device)
        _, kept = self._continue(state, tokens, places)
        return PrefixState(
            keys=tuple(key for key, _ in kept),
            values=tuple(value for _, value in kept),
            patches=first + tokens.shape[1],
        )

    def read(self, state: PrefixState) -> Tensor:
        """Return the logits [image, class] that follow from the patches of a state alone."""
        place = torch.tensor([self.config.class_index], device=state.keys[0].device)
        token = self.class_token.expand(len(state.keys[0]), -1, -1)
        tokens, _ = self._continue(state, token, place)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits

    def _continue(
        self, state: PrefixState | None, tokens: Tensor, places: Tensor
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the output of the last block for new tokens, and all keys and values by block."""
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding[:, places]
        rotary = None if self.rotary is None else self.rotary.select(places)
        kept = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            before = None if state is None else (state.keys[index], state.values[index])
            parts = block.attention.split(block.attention_norm(tokens), rotary)
            attended, key, value = attend_to_prefix(*parts, before)
            tokens = block.feed(tokens + block.attention.merge(attended))
            kept.append((key, value))
        return tokens, kept

    def _check_incremental(self, state: PrefixState | None, strip: Tensor) -> None:
        """Raise unless a prefix can be extended exactly, and the strip fits."""
        config, side = self.config, self.config.image_size
        refuse_inexact(config)
        left = side - (0 if state is None else state.patches // config.grid * config.patch_size)
        if strip.ndim != 4 or strip.shape[1::2] != (3, side):  # noqa: PLR2004 - [image, 3, row, column]
            raise ValueError(
                f"model: expected a strip [image, 3, row, {side}], got {list(strip.shape)}"
            )
        if not 0 < strip.shape[2] <= left or strip.shape[2] % config.patch_size:
            raise ValueError(
                f"model: a strip of {strip.shape[2]} rows is not of whole patches of "
                f"{config.patch_size} pixels within the {left} rows that are left"
            )

    def read_off(self, tokens: Tensor, class_index: int) -> Tensor:
        """Return the head's logits of the class token and of the patches' mean, [image, 2, class].

        Both go through the final norm first, as the output of the last block does.
        """
        own = tokens[:, class_index]
        mean = (tokens.sum(1) - own) / (tokens.shape[1] - 1)
        logits: Tensor = self.head(self.norm(torch.stack((own, mean), 1)))
        return logits

    def compile_paths(self) -> str:
        """Compile, in place, what `forward` and `observe` run; the first batch pays for it.

        Return the note of `prepare_to_compile`.
        """
        note = self.prepare_to_compile()
        self.encode = torch.compile(self.encode)  # type: ignore[method-assign]
        for block in self.blocks:
            assert isinstance(block, Block)
            block.forward_with_attention = torch.compile(block.forward_with_attention)  # type: ignore[method-assign]
        return note

    def prepare_to_compile(self, dtype: torch.dtype | None = None) -> str:
        """Let a compiled forward pass on a GPU use FlexAttention where a mask follows the softmax.

        It is compared with the explicit product first, in the dtype of the products: None for that
        of the weights. Return a note where it is not used, else nothing.
        """
        weight = self.class_token
        if self.path == "explicit" or weight.device.type != "cuda":
            return ""
        if not isinstance(self.masking, MultiplicativeMask):
            return ""
        config = self.config
        shape = HeadShape(config.tokens, config.head_width, dtype or weight.dtype, weight.device)
        if fault := split_fault(shape):
            return f"compiled without FlexAttention ({fault}); fused attention doubles the keys"
        self.masking.split_when_compiled()
        return ""

    def recompute_blocks(self) -> None:
        """Recompute blocks in the backward pass instead of keeping their activations; in place."""
        for block in self.blocks:
            assert isinstance(block, Block)
            again = partial(checkpoint, block.forward, use_reentrant=False)
            block.forward = again  # type: ignore[method-assign]

    def resolve_path(self, device: torch.device) -> Path:
        """Return `explicit` or `fused` for this device.

        Measured on CPUs: fused attention wins where no mask follows the softmax, and loses by a
        third where one does; on GPUs it also saves the memory of the maps. `auto` fuses only where
        a small product came out right on this device.
        """
        if self.path != "auto":
            return self.path
        masking = self.config.masking
        if device.type != "cuda" and masking not in {"none", "additive"}:
            return "explicit"
        if torch.compiler.is_compiling():  # checked by whoever ran or described it before
            return "fused"
        return "fused" if fused_agrees(masking, device) else "explicit"


def resize_positions(table: Tensor, old: Config, new: Config) -> Tensor:
    """Return a position table [1, token, channel] for another grid of patches.

    Bicubic without antialiasing, as in the released code; the class token's row is unchanged.
    """
    first = old.class_token == "first"
    own, grid = (table[:, :1], table[:, 1:]) if first else (table[:, -1:], table[:, :-1])
    grid = grid.reshape(1, old.grid, old.grid, old.width).permute(0, 3, 1, 2)
    size = (new.grid, new.grid)
    grid = functional.interpolate(grid, size=size, mode="bicubic", align_corners=False)
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat((own, grid) if first else (grid, own), dim=1)
