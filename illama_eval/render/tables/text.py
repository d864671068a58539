"""Tables of text, built from rows, and written as Markdown or LaTeX.

A run's rows become one table for the whole source, then one for each set of keys of `at`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from illama_eval.render.format.escape import markdown_cell, sanitize
from illama_eval.render.format.glossary import ARROWS, heading, metric_label, study_label
from illama_eval.render.format.numbers import show_row
from illama_eval.render.select import direction, subjects_of
from illama_eval.results import Row, Run

MOST = 2000
"""Rows that one table by layer, head, class or bin may hold; more are left to the CSV file."""
_HEADLINE = ("study", "metric", "better", "value", "unit", "95 % interval", "images", "remark")

_LONGEST_MARKDOWN_CELL = 200
_LONGEST_LATEX_CELL = 120
_LATEX = {
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
    "\N{BLACK UP-POINTING TRIANGLE}": r"$\triangle$",
    "\N{BLACK DOWN-POINTING TRIANGLE}": r"$\bigtriangledown$",
    "\N{BLACK SQUARE}": r"\rule{1ex}{1ex}",
    "\N{HEAVY GREEK CROSS}": "$+$",
    "\N{HEAVY MULTIPLICATION X}": r"$\times$",
    "\N{MULTIPLICATION X}": r"$\times$",
    "\N{NOT EQUAL TO}": r"$\neq$",
    "\N{EMPTY SET}": r"$\emptyset$",
    "\N{RIGHTWARDS ARROW}": r"$\to$",
    "\N{PRIME}": "$'$",
    "\N{EN DASH}": "--",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{NO-BREAK SPACE}": "~",
    "\N{FIGURE SPACE}": "",
    "\N{PUNCTUATION SPACE}": "",
}
"""Character -> how LaTeX writes it."""
_LAST_LETTER = "\u024f"
"""The last letter that every LaTeX can print; of what comes after the code point is written."""
_UNPRINTABLE = re.compile(f"[^\x20-\x7e\u00a1-{_LAST_LETTER}]")


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table of text under a heading."""

    title: str
    """Empty where the heading before it covers it."""
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    right: frozenset[int]
    """Columns that are aligned to the right."""


@dataclass(frozen=True, kw_only=True)
class TableGroup:
    """All tables of one subject."""

    title: str
    tables: Sequence[TextTable]


def table_groups(run: Run, rows: Sequence[Row]) -> list[TableGroup]:
    """Return the rows as tables, subject by subject."""
    groups = []
    for subject in subjects_of(run):
        mine = [row for row in rows if row.subject == subject]
        if mine:
            groups.append(TableGroup(title=heading(mine), tables=list(_tables_of(run, mine))))
    return groups


def _tables_of(run: Run, rows: Sequence[Row]) -> Iterator[TextTable]:
    whole = [row for row in rows if not row.at]
    if whole:
        yield _headline(run, whole)
    by_keys: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.at:
            by_keys[row.study, *row.at].append(row)
    for (study, *keys), here in by_keys.items():
        count = len(here)
        if count > MOST:
            yield TextTable(
                title=f"{study_label(study)}: {count:,} rows, in the CSV file",
                head=keys,
                lines=[],
                right=frozenset(),
            )
        elif "head" in keys:
            yield from _by_head([key for key in keys if key != "head"], here)
        else:
            yield _pivot(study_label(study), keys, here, _metric)


def _headline(run: Run, rows: Sequence[Row]) -> TextTable:
    lines = []
    for row in rows:
        shown = show_row(row)
        lines.append(
            (
                study_label(row.study),
                metric_label(row.metric),
                ARROWS[direction(run, row)],
                shown.value,
                shown.unit,
                shown.interval,
                f"{row.images:,}",
                row.reason,
            )
        )
    return TextTable(title="", head=_HEADLINE, lines=lines, right=frozenset({3, 6}))


def _by_head(keys: Sequence[str], rows: Sequence[Row]) -> Iterator[TextTable]:
    """Yield a table for each metric: a line per layer, a column per head."""
    for metric in dict.fromkeys(row.metric for row in rows):
        mine = [row for row in rows if row.metric == metric]
        yield _pivot(_metric(mine[0]), keys, mine, _head)


def _pivot(
    title: str, keys: Sequence[str], rows: Sequence[Row], column_of: Callable[[Row], str]
) -> TextTable:
    """Return a table with a line for each value of the keys; `column_of` names a row's column."""
    columns = list(dict.fromkeys(column_of(row) for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        at = tuple(str(row.at[key]) for key in keys)
        lines.setdefault(at, {})[column_of(row)] = show_row(row).value
    cells = [[*at, *(found.get(name, "") for name in columns)] for at, found in lines.items()]
    numbers = frozenset(range(len(keys), len(keys) + len(columns)))
    return TextTable(title=title, head=[*keys, *columns], lines=cells, right=numbers)


def _metric(row: Row) -> str:
    unit = show_row(row).unit
    return metric_label(row.metric) + (f" ({unit})" if unit else "")


def _head(row: Row) -> str:
    return f"head {row.at['head']}"


def to_markdown(groups: Sequence[TableGroup]) -> str:
    """Return the tables as Markdown, each subject under its heading."""
    texts = []
    for group in groups:
        texts.append(f"## {markdown_cell(group.title)}")
        for table in group.tables:
            texts += [f"### {markdown_cell(table.title)}"] if table.title else []
            texts.append(pipe_table(table.head, table.lines, table.right))
    return "\n\n".join(texts) + "\n"


def pipe_table(
    head: Sequence[str], lines: Iterable[Sequence[str]], right: Iterable[int] = ()
) -> str:
    """Return a Markdown table with the columns `right` aligned to the right."""
    aligned = set(right)
    rule = ["---:" if column in aligned else ":---" for column in range(len(head))]
    body = [
        [markdown_cell(sanitize(cell, _LONGEST_MARKDOWN_CELL)) for cell in line]
        for line in (head, *lines)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (body[0], rule, *body[1:]))


def to_latex(groups: Sequence[TableGroup]) -> str:
    """Return the tables as LaTeX, one `table` each; the preamble needs booktabs."""
    tables = [
        _latex_table(table, ", ".join(filter(None, (group.title, table.title))))
        for group in groups
        for table in group.tables
    ]
    return "\n".join(["% \\usepackage{booktabs}", *tables])


def latex_cell(text: str) -> str:
    """Return the text for a cell: it neither ends the cell nor runs a command."""
    letters = (
        _LATEX.get(letter, letter) for letter in _printable(sanitize(text, _LONGEST_LATEX_CELL))
    )
    return "".join(letters)


def _printable(line: str) -> str:
    return _UNPRINTABLE.sub(
        lambda found: found[0] if found[0] in _LATEX else f"U+{ord(found[0]):04X}", line
    )


def _latex_table(table: TextTable, caption: str) -> str:
    lines = [list(map(latex_cell, line)) for line in (table.head, *table.lines)]
    return latex_table(lines[0], lines[1:], table.right, latex_cell(caption))


def latex_table(
    head: Sequence[str],
    lines: Iterable[Sequence[str]],
    right: Collection[int],
    caption: str,
    label: str = "",
) -> str:
    """Return a `table` with booktabs' rules; cells, caption and label are LaTeX already.

    Columns in `right` are aligned to the right; without a label none is written.
    """
    columns = "".join("r" if column in right else "l" for column in range(len(head)))
    first, *body = (" & ".join(line) + r" \\" for line in (head, *lines))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            *([rf"\label{{{label}}}"] if label else []),
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            first,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
