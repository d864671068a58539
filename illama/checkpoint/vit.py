"""ViT and DeiT checkpoints: weights our models lack are folded in exactly, or refused."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from illama.checkpoint.foreign import TIMM
from illama.files import CheckpointError

REFUSED: Mapping[str, str] = {
    "dist_token": "it is a distilled DeiT, with two class tokens and two heads",
    "reg_token": "it has register tokens beside the class token",
    "fc_norm.weight": "its head reads the mean of the patches, not the class token",
    "norm_pre.weight": "it has a norm before the first block",
    "blocks.0.attn.q_norm.weight": "it has norms of queries and keys",
    "blocks.0.attn.q_bias": "its queries and keys have relative positions (BEiT)",
    "attn_pool.latent": "its head pools all tokens by attention",
}
"""Weights that mark another architecture under ViT's names, and what it is."""

ARGUMENTS: Mapping[tuple[str, ...], tuple[frozenset[object], str]] = {
    ("global_pool", "gp", "pool", "pooling"): (
        frozenset({None, False, "", "token", "cls", "class"}),
        "the head does not read the class token",
    ),
    ("act_layer", "activation", "hidden_act"): (
        frozenset({None, "", "gelu", "GELU"}),
        "the feed-forward has another activation than the exact GELU",
    ),
    ("pre_norm", "use_pre_norm"): (
        frozenset({None, False}),
        "there is a norm before the first block",
    ),
    ("norm_eps", "layer_norm_eps"): (frozenset({None, 1e-6}), "norms have another epsilon"),
}
"""Arguments of a training -> the values that our ViT has, and what any other means."""

_SCALE = re.compile(r"(blocks\.\d+\.)(?:ls|gamma_)([12])(?:\.gamma)?")
_SCALED = {"1": "attention.projection", "2": "feed_forward.down"}


def has_layer_scale(state: Mapping[str, Tensor]) -> bool:
    """Return whether each branch is scaled by a learned vector."""
    return any(_SCALE.fullmatch(name) for name in state)


def check_args(args: Mapping[str, Any]) -> None:
    """Refuse a ViT whose training's arguments say that it differs in what weights do not show.

    Raises:
        CheckpointError: they do; the message names the argument.
    """
    nested = args.get("model_kwargs")
    given = {**args, **(nested if isinstance(nested, Mapping) else {})}
    for names, (allowed, meaning) in ARGUMENTS.items():
        for name in names:
            value = given.get(name)
            if not isinstance(value, Hashable) or value not in allowed:
                raise CheckpointError(
                    f"its args have {name}={value!r}: {meaning}, which our ViT does not do; {TIMM}"
                )


def fold(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return a ViT's weights, under our names, in the form of our models; and what was changed.

    DeiT III (Touvron et al. 2022) scales each branch by a learned vector: the vector is multiplied
    into the rows of the branch's last layer. Its class token has no position: that row is zero. A
    projection to queries, keys and values without a bias gets zeros.

    Raises:
        CheckpointError: the file has another architecture, which our models cannot represent.
    """
    for name, what in REFUSED.items():
        if name in state:
            raise CheckpointError(f"is not a plain ViT or DeiT: {what} ({name}); {TIMM}")
    folded = dict(state)
    done = (
        (_fold_scales(folded), "layer scale is folded into the projections"),
        (_place_class_token(folded), "the class token has no position: its row is zero"),
        (_add_biases(folded), "queries, keys and values have no bias: it is zero"),
    )
    return folded, tuple(note for found, note in done if found)


def _fold_scales(state: dict[str, Tensor]) -> bool:
    """Multiply each branch's last layer by its layer scale, in place."""
    found = False
    for name in list(state):
        match = _SCALE.fullmatch(name)
        if match is None:
            continue
        layer = f"{match[1]}{_SCALED[match[2]]}"
        weight, bias = state.get(f"{layer}.weight"), state.get(f"{layer}.bias")
        scale = state[name]
        if weight is None or bias is None or scale.shape != bias.shape or weight.ndim != 2:  # noqa: PLR2004 - [out, in]
            continue  # it is kept, and later refused as an unexpected weight
        exact = state.pop(name).float()
        state[f"{layer}.weight"] = weight.float() * exact[:, None]
        state[f"{layer}.bias"] = bias.float() * exact
        found = True
    return found


def _place_class_token(state: dict[str, Tensor]) -> bool:
    """Give the class token a zero row where the position table has only the patches."""
    table, token = state.get("position_embedding"), state.get("class_token")
    if table is None or token is None or table.ndim != 3 or token.shape != (1, 1, table.shape[-1]):  # noqa: PLR2004 - [1, token, channel]
        return False
    if round(table.shape[1] ** 0.5) ** 2 != table.shape[1]:
        return False
    state["position_embedding"] = torch.cat((torch.zeros_like(table[:, :1]), table), dim=1)
    return True


def _add_biases(state: dict[str, Tensor]) -> bool:
    """Give queries, keys and values a bias of zero where no block has one."""
    weights = [name for name in state if name.endswith(".attention.qkv.weight")]
    biases = [f"{name.removesuffix('weight')}bias" for name in weights]
    if not weights or any(name in state for name in biases):
        return False
    state.update(
        {
            bias: state[name].new_zeros(len(state[name]))
            for name, bias in zip(weights, biases, strict=True)
        }
    )
    return True
