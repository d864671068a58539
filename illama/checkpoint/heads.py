"""The number of attention heads, which shapes do not determine: published models, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from illama.files import CheckpointError

Family = Literal["iLLaMA", "ViT", "ViT with layer scale", "other"]
"""By the weights' names. The steps of the road between ViT and iLLaMA are `other`."""

ILLAMA_HEADS: Mapping[int, int] = {96: 3, 192: 3, 384: 6, 768: 12, 1024: 16}
"""By width (paper, Table 11; 96 is nano); every iLLaMA of one width has the same number."""

VIT_HEADS: Mapping[tuple[int, int], Mapping[int, str]] = {
    (192, 12): {3: "ViT-Ti and DeiT-Ti"},
    (384, 12): {6: "ViT-S, DeiT-S and DINO's ViT-S", 12: "MoCo v3's ViT-S"},
    (512, 12): {8: "ViT-M"},
    (768, 12): {12: "ViT-B and DeiT-B"},
    (1024, 24): {16: "ViT-L"},
    (1280, 32): {16: "ViT-H"},
}
"""By width and depth: heads -> the published models that have them (Dosovitskiy et al. 2021;
Touvron et al. 2021; Caron et al. 2021; Chen et al. 2021, Table 2)."""

SCALED_HEADS: Mapping[tuple[int, int], Mapping[int, str]] = {
    (384, 12): {6: "DeiT III-S and DINOv2's ViT-S"},
    (512, 12): {8: "DeiT III-M"},
    (768, 12): {12: "DeiT III-B and DINOv2's ViT-B"},
    (1024, 24): {16: "DeiT III-L and DINOv2's ViT-L"},
    (1280, 32): {16: "DeiT III-H"},
}
"""The same for ViTs with layer scale (Touvron et al. 2022; Oquab et al. 2023)."""

_USUAL = range(16, 129, 2)
"""Channels of a head that are proposed."""


def published_heads(family: Family, width: int, depth: int) -> tuple[int, str]:
    """Return the heads that all published models of this family and shape have, and why.

    Raises:
        CheckpointError: they differ, or there are none; the candidates are named.
    """
    if family == "iLLaMA" and width in ILLAMA_HEADS:
        return ILLAMA_HEADS[width], f"width {width}"
    tables = {"ViT": VIT_HEADS, "ViT with layer scale": SCALED_HEADS}
    known = tables.get(family, {}).get((width, depth), {})
    if len(known) == 1:
        ((heads, models),) = known.items()
        return heads, f"width {width} and depth {depth}, as {models}"
    raise CheckpointError(
        f"does not say how many attention heads it has, and {_why(family, known, width, depth)}"
    )


def _why(family: Family, known: Mapping[int, str], width: int, depth: int) -> str:
    """Return why nothing decides, and the candidates."""
    if known:
        models = " and ".join(f"{heads} ({models})" for heads, models in known.items())
        options = " or ".join(f"--heads {heads}" for heads in known)
        return f"width {width} at depth {depth} was published with {models}; pass {options}"
    fitting = [heads for heads in range(1, width + 1) if width % heads == 0]
    usual = [heads for heads in fitting if width // heads in _USUAL] or fitting
    options = ", ".join(f"{heads} of {width // heads} channels" for heads in usual[:8])
    kind = "ViT" if family == "other" else family
    return (
        f"no published {kind} of width {width} and depth {depth} tells; pass --heads; "
        f"possible are {options}"
    )
