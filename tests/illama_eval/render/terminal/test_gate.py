from __future__ import annotations

from illama_eval.compare.comparison import compare_paths
from illama_eval.render.terminal.comparison import show_comparison
from illama_eval.render.terminal.gate import show_verdicts


def test_every_line_fits_a_terminal_of_80_columns(printed, worse, tmp_path):
    (compared,) = compare_paths(str(tmp_path / "a"), str(tmp_path / "b"))
    for text in (printed(show_verdicts, worse), printed(show_comparison, compared)):
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text.replace("000000000000…", "")
