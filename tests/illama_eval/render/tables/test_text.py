"""Tables: what a reader sees, and names that try to break out of them."""

from __future__ import annotations

import re

from illama_eval.render.tables.text import latex_cell, table_groups, to_markdown


def test_hostile_names_neither_break_nor_mark_up_a_markdown_row(
    hostile_run, unescaped, hostile_names
):
    run = hostile_run(hostile_names)
    text = to_markdown(table_groups(run, run.rows))
    text.encode("utf-8")
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if lines[0].startswith("|"):
            widths = {unescaped(line).count("|") for line in lines}
            assert len(widths) == 1, lines
    assert not any(mark in unescaped(text) for mark in ("<", ">", "`", "]", "$"))


def test_latex_cells_neither_end_nor_run(hostile_names):
    for name in [*hostile_names, "\\input{x} & % $ # _ { } ~ ^ [2ex]"]:
        cell = latex_cell(name)
        bare = re.sub(r"\\(?:[&%$#_{}]|text\w+\{\}|dots\{\})|\{\[\}|\$[-^][-2]?\$", "", cell)
        assert not re.search(r"[\\&%$#_{}~^\[\n]", bare), (name, cell)
    assert latex_cell("\N{MINUS SIGN}1.5 %") == "$-$1.5 \\%"


def test_latex_tables_have_a_cell_for_every_column(reported):
    for path in sorted((reported / "tables").glob("*.tex")):
        columns = 0
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("\\begin{tabular}"):
                columns = len(line.split("{")[2].rstrip("}"))
            elif line.endswith("\\\\"):
                assert len(re.split(r"(?<!\\)&", line)) == columns, line
