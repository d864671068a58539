"""Measure what trained iLLaMA checkpoints are like, in one pass over the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from illama_eval.results import Run

if TYPE_CHECKING:
    from illama_eval.commands.from_python import evaluate
    from illama_eval.subjects.wrap import wrap

__all__ = ["Run", "evaluate", "wrap"]


def __getattr__(name: str) -> object:
    """Import what needs torch on first use, so that reading a run does not import it."""
    if name == "evaluate":
        from illama_eval.commands.from_python import evaluate  # noqa: PLC0415 - torch stays away

        return evaluate
    if name == "wrap":
        from illama_eval.subjects.wrap import wrap  # noqa: PLC0415 - the same

        return wrap
    raise AttributeError(f"module 'illama_eval' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, those before their first use included."""
    return __all__
