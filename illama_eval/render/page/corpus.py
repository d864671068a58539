"""The page of a corpus: models as rows, numbers as columns, each beside its reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from illama_eval.compare import model_table
from illama_eval.compare.change import Change
from illama_eval.compare.model_table import ModelRow, ModelTable
from illama_eval.render.format.changes import show_change
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import (
    ARROWS,
    DEFINED,
    column_label,
    metric_label,
    unit_label,
)
from illama_eval.render.format.numbers import MISSING, show_row
from illama_eval.render.page.document import NOTHING, Cell, Column, Document, Judgement, Table
from illama_eval.results import nested_get

_CHANGE = Markup("<small{tone}>{text}</small>")
_TONE = Markup(' class="{}"')
_DELTA = "\N{GREEK CAPITAL LETTER DELTA}"
_SHA = 8
NOTES = f"""\
Intervals are 95 % intervals over images, or over training seeds where a model has several. A dash \
stands where a number was not measured, or is not defined; a number without an interval is one of \
which none is known to cover.
{_DELTA} is the difference to the model in the column reference, which saw the same images: a \
paired 95 % interval. It says better, worse or differs where the difference is clear after Holm's \
correction over the model's row. Models of other images are not compared.
Replicates are kept rounded to a thirty-second of their deviation or finer, which moves an end of \
a paired interval by about a hundredth of its width."""


def corpus_document(
    table: ModelTable, headers: Mapping[str, Mapping[str, Any]], command: str
) -> Document:
    """Return the page of a corpus.

    `headers` are the headers of the models' runs by their names, `command` makes the page again.
    """
    columns, rows = corpus_columns(table), [_line(row) for row in table.rows]
    sets = {(row.source, row.images) for row in table.rows}
    images = ", ".join(f"{count:,} of {source}" for source, count in sorted(sets))
    metrics = dict.fromkeys(column.metric for column in table.columns)
    return Document(
        title=f"{len(rows)} models, {len(table.columns)} numbers of each",
        judgement=Judgement(
            symbol="\N{MIDDLE DOT}",
            word="Corpus",
            tone="neutral",
            sentence="Click a column's head to sort; compare rows of the same images alone.",
        ),
        subjects=(),
        crowded=False,
        source=[sanitize(images)],
        remarks=[],
        boxes=(),
        headline=Table(
            key="models",
            caption="Models and their numbers, with 95 % intervals and paired differences",
            columns=columns,
            rows=rows,
            total=len(rows),
            long=True,
        ),
        headline_note="The same numbers with full digits are in corpus.csv, for a paper in"
        " corpus.tex.",
        lead=None,
        changes=None,
        sections=(),
        not_run=(),
        command=[command],
        provenance=[_provenance(headers)],
        notes=NOTES.splitlines(),
        glossary=[(metric_label(name), DEFINED[name]) for name in metrics if name in DEFINED],
    )


def corpus_columns(table: ModelTable) -> list[Column]:
    """Return the heads: the model, its images, its reference, and each number with its unit."""
    fixed = [
        Column(label="model"),
        Column(label="images", filterable=True),
        Column(label="reference", filterable=True),
    ]
    return fixed + [_head(table, number) for number in range(len(table.columns))]


def _head(table: ModelTable, number: int) -> Column:
    column = table.columns[number]
    rows = [row.cells[number].row for row in table.rows]
    unit = next((show_row(row).unit for row in rows if row is not None), "")
    label = f"{column_label(column.metric, column.at)} {ARROWS[column.better]}".rstrip()
    return Column(label=label, unit=unit_label(unit), number=True)


def _line(row: ModelRow) -> list[Cell]:
    seeds = f"{row.seeds} seeds" if row.seeds > 1 else ""
    return [
        Cell(text=sanitize(row.name), note=seeds),
        Cell(text=f"{sanitize(row.source)}, {row.images:,}"),
        Cell(text=sanitize(row.reference) or MISSING),
        *(_cell(cell) for cell in row.cells),
    ]


def _cell(cell: model_table.Cell) -> Cell:
    if cell.row is None:
        return Cell(text=MISSING)
    shown = show_row(cell.row)
    return Cell(
        text=shown.value,
        note=shown.interval if shown.low else "",
        mark=NOTHING if cell.change is None else _difference(cell.change),
    )


def _difference(change: Change) -> Markup:
    """Return a line with the difference, its interval, and what it shows."""
    shown = show_change(change)
    interval = "" if shown.interval == MISSING else f" ({shown.interval})"
    text = f"{_DELTA} {shown.difference}{interval} {change.finding}".strip()
    known = change.finding in {"better", "worse"}
    return _CHANGE.format(tone=_TONE.format(change.finding) if known else "", text=text)


def _provenance(headers: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the table of weights, images and program behind each model."""
    labels = ("model", "weights", "images", "program", "torch", "device")
    rows = [[Cell(text=text) for text in _facts(name, each)] for name, each in headers.items()]
    return Table(
        key="provenance-models",
        caption="Weights and images (sha256, the first letters), program and device",
        columns=[Column(label=label) for label in labels],
        rows=rows,
        total=len(rows),
        long=True,
    )


def _facts(name: str, header: Mapping[str, Any]) -> Iterator[str]:
    paths: Sequence[tuple[str, ...]] = (
        ("identity", "subjects", "0", "weights_sha256"),
        ("identity", "source", "fingerprint"),
        ("code", "commit"),
    )
    yield sanitize(name)
    for path in paths:
        yield str(nested_get(header, *path) or MISSING)[:_SHA]
    for path in (("versions", "torch"), ("device",)):
        yield sanitize(nested_get(header, *path) or MISSING)
