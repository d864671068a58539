"""The headline table of the first screen: the most informative numbers with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from illama_eval.render.format.escape import LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import (
    ARROWS,
    EXPLAINED,
    anchor,
    in_order,
    metric_label,
    study_title,
    unit_label,
)
from illama_eval.render.format.numbers import MISSING, align, show_row
from illama_eval.render.models import MOST_TOLD_APART, ReportModel, ReportModels
from illama_eval.render.page.differences import change_cells, finding_cell, widest_of
from illama_eval.render.page.document import Cell, Column, Table
from illama_eval.render.paper import counterpart
from illama_eval.render.select import direction, groups_in_words, series_of
from illama_eval.results import Row

Key = tuple[str, str]

MOST = 9
"""Rows of the headline: what fits on a first screen."""
TWO = 2
COVERED = "Intervals cover the choice of images, not training seeds."


def headline_keys(models: ReportModels) -> list[Key]:
    """Return (study, metric) of the headline: of each study its most informative ones, in turns."""
    by_study: dict[str, list[str]] = {}
    for study, metric in models.headline:
        by_study.setdefault(study, []).append(metric)
    wanted = {study: _informative(study, metrics) for study, metrics in by_study.items()}
    rounds = zip_longest(
        *([(study, each) for each in wanted[study]] for study in in_order(list(wanted)))
    )
    chosen = [key for turn in rounds for key in turn if key is not None][:MOST]
    return [key for study in in_order(list(wanted)) for key in chosen if key[0] == study]


def headline_table(models: ReportModels) -> Table:
    """Return the headline: one model with intervals, two with a difference, or more in columns."""
    keys = headline_keys(models)
    crowded = len(models) > MOST_TOLD_APART
    build = _of_crowd if crowded else _of_many
    if len(models) == 1:
        build = _of_one
    elif len(models) == TWO and models.paired:
        build = _of_two
    columns, rows = build(models, keys)
    return Table(
        key="headline",
        caption="Headline numbers with 95 % intervals",
        columns=columns,
        rows=rows,
        total=len(rows),
        long=crowded,
    )


def headline_note(models: ReportModels) -> str:
    """Return how the headline is to be read."""
    if len(models) == 1:
        return f"{COVERED} {sanitize(groups_in_words(models.run), LONGEST_NOTE)}".strip()
    note = COVERED
    if models.apart:
        return f"{note} Nothing is subtracted: the runs cannot be compared."
    if not models.compared:
        return note
    if not models.paired:
        return f"{note} Nothing is subtracted: these runs have no paired intervals."
    if len(models) == TWO:
        return f"{note} Differences are paired: both models saw the same images."
    return f"{note} Best is marked only where every paired difference excludes zero."


def _names(models: ReportModels, keys: Sequence[Key], number: int) -> list[Cell]:
    """Return study and metric of a row, with its unit and which way is better.

    Eyes see the study's name in its first row only.
    """
    key = keys[number]
    first = not number or keys[number - 1][0] != key[0]
    row = next(iter(models.headline[key].values()))
    unit = unit_label(show_row(row).unit)
    name = metric_label(row.metric) + (f" ({unit})" if unit else "")
    arrow = ARROWS[direction(models.run, row)]
    study = Cell(text=study_title(row.study), link=anchor(row.study), tone="" if first else "again")
    return [study, Cell(text=f"{name} {arrow}".strip())]


def spaced(numbers: Sequence[str]) -> list[str]:
    """Return numbers whose points align at the right edge of a column of tabular figures."""
    padded = []
    for number in align(list(numbers)):
        bare = number.rstrip(" ")
        missing = len(number) - len(bare)
        point = "" if "." in bare or not missing else "\N{PUNCTUATION SPACE}"
        padded.append(bare + point + "\N{FIGURE SPACE}" * (missing - len(point)))
    return padded


def _informative(study: str, metrics: Sequence[str]) -> list[str]:
    known = EXPLAINED.get(study)
    chosen = [metric for metric in (known.headline if known else ()) if metric in metrics]
    return chosen or list(metrics[:TWO])


def _of_one(models: ReportModels, keys: Sequence[Key]) -> tuple[list[Column], list[list[Cell]]]:
    (model,) = models
    rows = [models.headline[key][model.name] for key in keys]
    papers = [counterpart(model, row) for row in rows]
    columns = [
        Column(label="study"),
        Column(label="metric"),
        Column(label="value", number=True),
        Column(label="95 % interval"),
        Column(label="images", number=True),
    ]
    if any(papers):
        columns.append(Column(label="the paper's", number=True))
    lines = []
    values = spaced([show_row(row).value for row in rows])
    for number, (row, value, paper) in enumerate(zip(rows, values, papers, strict=True)):
        cells = [
            *_names(models, keys, number),
            Cell(text=value),
            _interval(row),
            Cell(text=f"{row.images:,}"),
        ]
        if any(papers):
            cells.append(Cell(text=f"{paper.shown} ({paper.table})" if paper else MISSING))
        lines.append(cells)
    return columns, lines


def _interval(row: Row) -> Cell:
    shown = show_row(row)
    return Cell(text=shown.interval) if shown.low else Cell(text=MISSING, note=row.reason)


def _of_two(models: ReportModels, keys: Sequence[Key]) -> tuple[list[Column], list[list[Cell]]]:
    first, second = models
    columns = [
        *_model_columns(models),
        Column(label=f"{second.symbol} \N{MINUS SIGN} {first.symbol}, paired", number=True),
        Column(label="difference"),
        Column(label="finding"),
    ]
    changes = [models.change(first.name, second.name, *key) for key in keys]
    widest = widest_of(changes)
    return columns, [
        [
            *_names(models, keys, number),
            *_values(models, key),
            *change_cells(change, widest),
            finding_cell((first, second), change),
        ]
        for number, (key, change) in enumerate(zip(keys, changes, strict=True))
    ]


def _of_many(models: ReportModels, keys: Sequence[Key]) -> tuple[list[Column], list[list[Cell]]]:
    return _model_columns(models), [
        [*_names(models, keys, number), *_values(models, key)] for number, key in enumerate(keys)
    ]


def _of_crowd(models: ReportModels, keys: Sequence[Key]) -> tuple[list[Column], list[list[Cell]]]:
    """Return a row for each model, whose numbers can be sorted."""
    heads = (_names(models, keys, number)[1].text for number in range(len(keys)))
    variable, of_series = series_of(models.run)
    columns = [Column(label=sanitize(variable) or "model")]
    columns += [Column(label=head, number=True) for head in heads]
    values = zip(*(_values(models, key) for key in keys), strict=True)
    named = zip(models, values, strict=False)
    return columns, [
        [Cell(text=of_series.get(model.name) or models.column(model)), *cells]
        for model, cells in named
    ]


def _model_columns(models: ReportModels) -> list[Column]:
    names = map(models.column, models)
    return [
        Column(label="study"),
        Column(label="metric"),
        *(Column(label=name, number=True) for name in names),
    ]


def _values(models: ReportModels, key: Key) -> Iterator[Cell]:
    rows = models.headline[key]
    best = models.best(*key)
    for model in models:
        cell = value_cell(rows.get(model.name))
        if model.name == best:
            cell = Cell(text=f"{cell.text} best", note=cell.note, tone="better")
        yield cell


def value_cell(row: Row | None) -> Cell:
    """Return a value with its interval; a dash where it was not measured."""
    if row is None:
        return Cell(text=MISSING, note="not measured")
    shown = show_row(row)
    return Cell(text=shown.value, note=shown.interval if shown.low else "")


def joined_names(models: Iterable[ReportModel]) -> str:
    """Return the models' names as one phrase."""
    names = [model.label for model in models]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
