r"""Tables as LaTeX with booktabs, to be taken into papers with `\input`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from illama_eval.render.blocks import Block, Part
from illama_eval.render.format.escape import plain

_LONGEST_CELL = 120
_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after \\ a bracket would be read as a length
    "\N{MINUS SIGN}": "$-$",
    "\N{EM DASH}": "---",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{BLACK CIRCLE}": r"$\bullet$",
    "\N{BLACK DIAMOND}": r"$\diamond$",
    "\N{FIGURE SPACE}": "",
    "\N{PUNCTUATION SPACE}": "",
}
_LAST_LETTER = "\u024f"
"""The last letter that every LaTeX knows how to print; what comes after becomes `?`."""
_SHOWN = re.compile(f"[^\x20-\x7e\u00a1-{_LAST_LETTER}]")


def to_latex(parts: Sequence[Part]) -> str:
    """Return the tables as LaTeX, one `table` each; the preamble needs booktabs."""
    tables = [
        _table(block, ", ".join(filter(None, (part.title, block.title))))
        for part in parts
        for block in part.blocks
    ]
    return "\n".join(["% \\usepackage{booktabs}", *tables])


def latex_cell(text: str) -> str:
    """Return the text for a cell: it neither ends the cell nor runs a command."""
    letters = (_SPECIAL.get(letter, letter) for letter in _known(plain(text, _LONGEST_CELL)))
    return "".join(letters)


def _known(line: str) -> str:
    return _SHOWN.sub(lambda found: found[0] if found[0] in _SPECIAL else "?", line)


def _table(block: Block, caption: str) -> str:
    columns = "".join("r" if place in block.right else "l" for place in range(len(block.head)))
    head, *body = (
        " & ".join(map(latex_cell, line)) + r" \\" for line in (block.head, *block.lines)
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_cell(caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
