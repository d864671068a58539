"""Measure what trained iLLaMA checkpoints are like, in one pass over the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from illama_eval.results import Run

if TYPE_CHECKING:
    from illama_eval.run.evaluate import evaluate

__all__ = ["Run", "evaluate"]


def __getattr__(name: str) -> object:
    """Import `evaluate` on first use, so that reading a run does not import torch."""
    if name == "evaluate":
        from illama_eval.run.evaluate import evaluate  # noqa: PLC0415 - torch stays out of rendering

        return evaluate
    raise AttributeError(f"module 'illama_eval' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, `evaluate` before its first use included."""
    return __all__
