"""Whoever waits for what has no bar sees what is done."""

from __future__ import annotations

import io

from rich.console import Console

from illama_eval.render.terminal.status import announced


def test_what_has_no_bar_is_announced():
    for terminal in (True, False):
        console = Console(file=io.StringIO(), width=80, force_terminal=terminal, highlight=False)
        with announced(console, "drawing [figures]"):
            pass
        assert "drawing" in console.file.getvalue()
    assert console.file.getvalue() == "drawing [figures]\n"
