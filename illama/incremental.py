"""Exact incremental passes: what a strictly causal model keeps of the patches it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from illama.config import Config, Masking

WHY_NO_PREFIX: Mapping[Masking, str] = {
    "multiplicative": "the released mask follows the softmax over all patches, so earlier states "
    "change with every later patch and no prefix can be kept exactly; load with masking='additive'",
    "modified": "the class token in front sees all patches, and every patch sees it",
    "none": "every patch sees all later ones",
    "additive": "a class token in front sees no patch, so there is nothing to read",
}
"""Why a masking keeps no prefix that can be read; of `additive`, with the class token in front."""


def refuse_inexact(config: Config) -> None:
    """Refuse a model whose prefixes cannot be kept exactly, and read.

    Raises:
        ValueError: it is not strictly causal with its class token last.
    """
    if config.masking != "additive" or config.class_token != "last":
        raise ValueError(
            "model: extend needs masking 'additive' and the class token last, not "
            f"{config.masking!r} and {config.class_token}; {WHY_NO_PREFIX[config.masking]}"
        )


@dataclass(frozen=True, kw_only=True)
class PrefixState:
    """Keys and values of the first patches, by block; made and extended by `Model.extend`."""

    keys: tuple[Tensor, ...]
    """Of every block, rotated, [image, head, patch, channel]."""
    values: tuple[Tensor, ...]
    """Of every block, [image, head, patch, channel]."""
    patches: int
    """How many patches were seen, in raster order."""


def attend_to_prefix(
    query: Tensor, key: Tensor, value: Tensor, before: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return attended tokens, and all keys and values, [image, head, token, channel] each.

    New tokens see all those before them, and themselves; `before` holds earlier keys and values.
    """
    if before is not None:
        key, value = (torch.cat(pair, dim=-2) for pair in zip(before, (key, value), strict=True))
    new, seen = query.shape[-2], key.shape[-2]
    allowed = torch.ones(new, seen, dtype=torch.bool, device=query.device).tril(seen - new)
    scores = (query @ key.transpose(-2, -1)).masked_fill(~allowed, float("-inf"))
    return scores.softmax(-1) @ value, key, value
