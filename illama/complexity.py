"""Parameter and multiply-accumulate counts of a model, computed from its config."""

from __future__ import annotations

from illama.config import Config


def parameters(config: Config) -> int:
    """Return the number of trainable parameters."""
    width = config.width
    positions = 0 if config.position == "rotary" else config.tokens * width
    scales = _norms(config) * width if config.norm == "rms" else 0
    return parameters_as_published(config) + positions + width + scales


def parameters_as_published(config: Config) -> int:
    """Return the number of parameters as the paper counts them (Table 6).

    Its counter leaves out position table, class token and RMSNorm weights, but counts LayerNorm's.
    """
    width, hidden = config.width, config.hidden
    patches = 3 * config.patch_size**2 * width + width
    attention = 4 * width**2 + 4 * width
    swiglu, gelu = 3 * width * hidden, 2 * width * hidden + width + hidden
    block = attention + (swiglu if config.mlp == "swiglu" else gelu)
    norms = 2 * _norms(config) * width if config.norm == "layer" else 0
    return patches + config.depth * block + norms + (width + 1) * config.classes


def _norms(config: Config) -> int:
    """Return how many norms there are: two to a block, and the final one."""
    return 2 * config.depth + 1


def macs(config: Config) -> int:
    """Return multiply-accumulates of one image, nothing skipped, as the paper counts them.

    The paper's counter (fvcore) takes five per LayerNorm channel, and none for RMSNorm, softmax
    and rotary positions.
    """
    tokens, width = config.tokens, config.width
    patches = config.grid**2 * width * 3 * config.patch_size**2
    feed_forward = (3 if config.mlp == "swiglu" else 2) * tokens * width * config.hidden
    block = 4 * tokens * width**2 + 2 * tokens**2 * width + feed_forward
    norms = 5 * tokens * width * _norms(config) if config.norm == "layer" else 0
    return patches + config.depth * block + norms + width * config.classes


def causal_macs(config: Config) -> int:
    """Return multiply-accumulates if no value above the diagonal is multiplied (paper, Table 2).

    The product of queries and keys is still computed in full. The paper counts
    floor(N^2 / 2) + 1 products for N tokens, a little less than the triangle's N (N + 1) / 2.
    Equal to `macs` where nothing is masked.
    """
    if config.masking == "none":
        return macs(config)
    square = config.tokens**2
    return macs(config) - config.depth * config.width * (square - square // 2 - 1)
