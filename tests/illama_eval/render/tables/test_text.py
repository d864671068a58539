"""Tables: what a reader sees, and names that try to break out of them."""

from illama_eval.render.tables.text import table_groups, to_markdown


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
