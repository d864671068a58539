"""Whoever waits sees what is done: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from illama_eval.commands import progress as module
from illama_eval.commands.progress import progress
from illama_eval.run.job import Options


def console_of(*, terminal):
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, highlight=False)


@pytest.mark.parametrize(("pause", "lines"), [(60.0, 1), (0.0, 3)])
def test_without_a_terminal_there_is_a_line_at_once_and_one_each_minute(monkeypatch, pause, lines):
    monkeypatch.setattr(module, "PAUSE", pause)
    console = console_of(terminal=False)
    with progress(console, Options()) as options:
        options.on_start(2000, 0)
        options.on_batch(64)
        options.on_batch(64)
    said = console.file.getvalue().splitlines()
    every = ["measuring: 2,000 images", *(f"measuring: image {n} of 2,000" for n in (64, 128))]
    assert said == every[:lines]


def test_a_resumed_run_says_where_it_goes_on():
    console = console_of(terminal=False)
    with progress(console, Options(), "reading") as options:
        options.on_start(2000, 1024)
    assert console.file.getvalue() == "reading: image 1,024 of 2,000\n"


def test_a_terminal_has_a_bar_that_leaves_nothing_behind():
    console = console_of(terminal=True)
    with progress(console, Options()) as options:
        options.on_start(2000, 0)
        options.on_batch(64)
    assert "measuring" in console.file.getvalue()
    assert "image 64" not in console.file.getvalue()
