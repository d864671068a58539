"""The iLLaMA vision transformer (Wang et al. 2024, arXiv 2404.06773): model, data, training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from illama.config import SIZES, STEPS, Config

if TYPE_CHECKING:
    from illama.checkpoint.load import load

__all__ = ["SIZES", "STEPS", "Config", "load"]


def __getattr__(name: str) -> object:
    """Import `load` on first use, so that `import illama` does not import torch."""
    if name == "load":
        from illama.checkpoint.load import load  # noqa: PLC0415 - torch stays out of --help

        return load
    raise AttributeError(f"module 'illama' has no attribute {name!r}")
