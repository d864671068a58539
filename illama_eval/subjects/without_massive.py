"""A model with its massive activations removed, to measure what they do for its answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from illama.model import Block
from illama_eval.functional.token_states import remove_massive
from illama_eval.subjects.checkpoint import ModelSubject

SUFFIX = ", massive activations removed"
"""Added to the name of the model."""


def without_massive_activations(subject: ModelSubject, ratio: float, size: float) -> ModelSubject:
    """Return the subject with the massive activations of its patches removed after every block.

    Each is set to the median of its channel over the patches of its image (Sun et al. 2024 set it
    to a mean). `ratio` and `size` are as in `remove_massive`. After the last block nothing is
    removed: the head reads the class token alone. Images without one go through unchanged.
    """
    model = copy.deepcopy(subject.model)
    patches = model.config.image_tokens
    for block in model.blocks[:-1]:
        assert isinstance(block, Block)
        removed = partial(_feed, block.feed, patches, ratio, size)
        block.feed = removed  # type: ignore[method-assign]
    provenance = {**subject.provenance, "removed": f"activations over {ratio:g} medians"}
    return replace(subject, name=f"{subject.name}{SUFFIX}", model=model, provenance=provenance)


def _feed(
    feed: Callable[[Tensor, Tensor | None], Tensor],
    patches: slice,
    ratio: float,
    size: float,
    tokens: Tensor,
    kept: Tensor | None = None,
) -> Tensor:
    """Return the output of a block with its patches' massive activations removed."""
    states = feed(tokens, kept)
    states[:, patches] = remove_massive(states[:, patches], ratio, size)
    return states
