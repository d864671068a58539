from __future__ import annotations

import io

import pytest
from rich.console import Console

from illama_eval.compare.comparison import compare_paths
from illama_eval.compare.gate import check
from illama_eval.render.terminal.comparison import show_comparison
from illama_eval.render.terminal.gate import show_verdicts


@pytest.fixture
def worse(write_run, tmp_path):
    baseline, run = write_run(tmp_path / "a"), write_run(tmp_path / "b", accuracy=0.6, seed=1)
    return check(run, baseline)


def printed(show, shown, width=80, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(shown, Console(file=file, width=width, highlight=False))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_every_line_fits_a_terminal_of_80_columns(worse, tmp_path):
    (compared,) = compare_paths(str(tmp_path / "a"), str(tmp_path / "b"))
    for text in (printed(show_verdicts, worse), printed(show_comparison, compared)):
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text.replace("000000000000…", "")
