"""Tables as Markdown, for reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from illama_eval.render.blocks import Part
from illama_eval.render.format.escape import markdown_cell, plain

_LONGEST_CELL = 200


def to_markdown(parts: Sequence[Part]) -> str:
    """Return the tables as Markdown, each subject under its heading."""
    texts = []
    for part in parts:
        texts.append(f"## {markdown_cell(part.title)}")
        for block in part.blocks:
            texts += [f"### {markdown_cell(block.title)}"] if block.title else []
            texts.append(pipe_table(block.head, block.lines, block.right))
    return "\n\n".join(texts) + "\n"


def pipe_table(
    head: Sequence[str], lines: Iterable[Sequence[str]], right: Iterable[int] = ()
) -> str:
    """Return a Markdown table with the columns `right` aligned to the right."""
    aligned = set(right)
    rule = ["---:" if column in aligned else ":---" for column in range(len(head))]
    body = [[markdown_cell(plain(cell, _LONGEST_CELL)) for cell in line] for line in (head, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (body[0], rule, *body[1:]))
