"""Tables, figures and reports of run directories, made from their files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from illama_eval.render.terminal.run import show

if TYPE_CHECKING:
    from illama_eval.render.report import render_directory, write_report

__all__ = ["render_directory", "show", "write_report"]


def __getattr__(name: str) -> object:
    """Import drawing on first use: it takes most of a second, and comparing runs draws nothing.

    Raises:
        AttributeError: there is no such name.
    """
    if name in {"render_directory", "write_report"}:
        from illama_eval.render import report  # noqa: PLC0415 - see above

        return getattr(report, name)
    raise AttributeError(f"module 'illama_eval.render' has no attribute {name!r}")
