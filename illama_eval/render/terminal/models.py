"""Several models of one run on the terminal: a line of the table each, and what they share."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, JustifyMethod
from rich.table import Table

from illama_eval.render.format.escape import LONGEST_NAME, break_name, sanitize
from illama_eval.render.format.glossary import unit_label
from illama_eval.render.format.numbers import MISSING, Shown, align, show_images, show_row
from illama_eval.render.format.verdicts import Said
from illama_eval.render.models import NAMED
from illama_eval.render.select import series_of
from illama_eval.render.sentences import as_sentence
from illama_eval.render.terminal.tables import BETWEEN, LEAST, add_row, plain_table
from illama_eval.results import Row, Run, nested_get


@dataclass(frozen=True, kw_only=True)
class Line:
    """One number of one model, and its name."""

    row: Row
    label: str
    control: bool = False
    """Whether it is the control of the number above it."""


Column = tuple[str, Sequence[str]]
"""A column's heading, which may be several lines, and its cells."""
WITH_INTERVALS = ("{value} ({interval})", "{value}\n{interval}")
VALUE_ALONE = "{value}"
CONTROLS = (2, 1, 0)
"""Kinds of controls beside the rank: as many as there is room for."""


def models_table(run: Run, found: Mapping[str, Sequence[Line]], console: Console) -> Table:
    """Return a line for each model: values with their intervals, where these fit the console.

    Intervals stand beside the values, else below them; the controls of a rank are left out before
    the intervals are.
    """
    head = sanitize(series_of(run)[0]) or "model"
    names: Column = (head, list(labels_of(run, found).values()))
    forms = [(form, controls) for controls in CONTROLS for form in WITH_INTERVALS]
    forms += [(VALUE_ALONE, controls) for controls in CONTROLS]
    choices = [_columns(found, *form) for form in forms]
    fitting = (columns for columns in choices if _fits(names, columns, console.width))
    chosen: Sequence[Column] = next(fitting, choices[-1])
    sides: dict[str, JustifyMethod] = {head: "left", **{label: "right" for label, _ in chosen}}
    table = plain_table(sides, console, wrapped={head})
    room = max(LEAST, console.width - sum(_width(each) + BETWEEN for each in chosen))
    for name, *cells in zip(names[1], *(cells for _, cells in chosen), strict=True):
        add_row(table, ("\n".join(break_name(name, room)), *cells), console)
    return table


def labels_of(run: Run, subjects: Mapping[str, object]) -> dict[str, str]:
    """Return the name of each model, of a series the value that it stands for."""
    _, values = series_of(run)
    return {each: values.get(each) or sanitize(each, LONGEST_NAME) for each in subjects}


def title_of(run: Run, found: Mapping[str, Sequence[Line]]) -> str:
    """Return how many models these are, or how many values of what one is measured at, on what."""
    rows = [line.row for lines in found.values() for line in lines]
    sources = ", ".join(dict.fromkeys(sanitize(row.source, LONGEST_NAME) for row in rows))
    variable, _ = series_of(run)
    reference = nested_get(run.header, "variable", "reference")
    what = f"{sanitize(variable) or 'model'}s"
    whose = f" of {sanitize(reference, LONGEST_NAME)}" if reference else ""
    return f"{len(found)} {what}{whose} on {sources}: {show_images(rows[0].images)}"


def say_by_model(said: Sequence[tuple[str, Said]], labels: Mapping[str, str]) -> list[Said]:
    """Return each sentence once, of several models with whom it is about."""
    if len(labels) == 1:
        return [Said(text=as_sentence(each.text), look=each.look) for _, each in said]
    by_words: dict[tuple[str, bool], list[str]] = {}
    for subject, each in said:
        by_words.setdefault((each.text, each.look), []).append(labels[subject])
    return [
        Said(text=f"{_about(names, len(labels))}: {text}.", look=look)
        for (text, look), names in by_words.items()
    ]


def _about(names: Sequence[str], models: int) -> str:
    """Return whom a sentence is about."""
    if len(names) == models:
        return "Each"
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} of {models}"


def _columns(found: Mapping[str, Sequence[Line]], form: str, controls: int) -> list[Column]:
    """Return the numbers that any model has, each with its values in the order of the models.

    `controls` is the number of kinds of controls among them.
    """
    kinds = dict.fromkeys(line.label for lines in found.values() for line in lines if line.control)
    kept = {*list(kinds)[:controls], ""}
    rows: dict[tuple[str, ...], dict[str, Line]] = {}
    for subject, lines in found.items():
        for line in lines:
            if (line.label if line.control else "") in kept:
                key = (line.row.study, line.row.metric, *map(str, line.row.at.values()))
                rows.setdefault(key, {})[subject] = line
    places = [key[:2] for key in rows]
    return [
        _column([rows[key].get(subject) for subject in found], form)
        for key in sorted(rows, key=lambda key: (places.index(key[:2]), key[2:]))
    ]


def _column(lines: Sequence[Line | None], form: str) -> Column:
    """Return the heading of one number with its unit, and the models' cells."""
    shown = [None if line is None else show_row(line.row) for line in lines]
    values = align([MISSING if each is None else each.value for each in shown])
    cells = [_cell(each, value, form) for each, value in zip(shown, values, strict=True)]
    first = next(line for line in lines if line is not None)
    unit = unit_label(show_row(first.row).unit)
    label = first.label if unit == "index" else f"{first.label} ({unit})"
    widest = max(len(word) for word in (*label.split(), *"\n".join(cells).split("\n")))
    return "\n".join(textwrap.wrap(label, widest)), cells


def _cell(shown: Shown | None, value: str, form: str) -> str:
    if shown is None or not shown.low:
        return value
    return form.format(value=value if form == VALUE_ALONE else shown.value, interval=shown.interval)


def _fits(names: Column, columns: Sequence[Column], width: int) -> bool:
    """Return whether the console has room for the columns beside that of the names."""
    needed = min(LEAST, max(map(len, (names[0], *names[1]))))
    return needed + sum(_width(each) + BETWEEN for each in columns) <= width


def _width(column: Column) -> int:
    head, cells = column
    return max(map(len, "\n".join((head, *cells)).split("\n")))
