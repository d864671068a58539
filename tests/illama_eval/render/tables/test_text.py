"""Tables: what a reader sees, and names that try to break out of them."""

from illama_eval.render.tables.text import table_groups, to_markdown
from illama_eval.results import Row, Run


def hostile_run(run_of, names):
    run = run_of(subjects=names[:2], source=names[2])
    rows = [
        Row(
            subject=name,
            source=name,
            study="accuracy",
            metric=name,
            value=-0.5,
            unit=name,
            images=1,
            at=at,
            reason=name,
        )
        for name in names
        for at in ({}, {"class": name, name: 1})
    ]
    return Run(header={}, rows=(*run.rows, *rows), curves=run.curves, verdicts=run.verdicts)


def test_hostile_names_neither_break_nor_mark_up_a_markdown_row(run_of, hostile_names):
    run = hostile_run(run_of, hostile_names)
    text = to_markdown(table_groups(run, run.rows))
    text.encode("utf-8")
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if lines[0].startswith("|"):
            widths = {cells(line) for line in lines}
            assert len(widths) == 1, lines
    assert not any(mark in unescaped(text) for mark in ("<", ">", "`", "]", "$"))


def cells(line):
    return unescaped(line).count("|")


def unescaped(text):
    """Return the text without its backslash escapes."""
    kept, letters = [], iter(text)
    for letter in letters:
        if letter == "\\":
            next(letters)
        else:
            kept.append(letter)
    return "".join(kept)
