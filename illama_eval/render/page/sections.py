"""The sections of a report, one per study: findings, figures and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from illama_eval.render.figures.canvas import Drawing
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
from illama_eval.render.format.numbers import show_row
from illama_eval.render.format.verdicts import MARK, say_reason, say_verdict
from illama_eval.render.models import MOST_TOLD_APART, ReportModel, ReportModels
from illama_eval.render.page.attention_samples import samples_of
from illama_eval.render.page.breakdowns import Breakdown, breakdowns_of, to_table
from illama_eval.render.page.differences import FEW, PAIR
from illama_eval.render.page.document import Cell, Column, Picture, Section, Table
from illama_eval.render.page.embed import embed_figure
from illama_eval.render.page.findings import findings_of
from illama_eval.render.page.headline import value_cell
from illama_eval.render.page.rank_heatmap import heat_maps
from illama_eval.render.paper import Published, published_of
from illama_eval.render.samples import Samples as Stored
from illama_eval.render.select import direction, studies_measured
from illama_eval.results import Row

MOST_ROWS = 1200
"""Rows of all tables of a page together: more make browsers slow."""
REPLACED = "rank_by_head"
"""The figure that the page shows as tables instead."""
MANY_VERDICTS = 8
"""Most verdicts of a study whose table stands open, of one or two models: those of collapse for
one."""


def sections_of(
    models: ReportModels, drawings: Sequence[Drawing], most_rows: int = MOST_ROWS
) -> list[Section]:
    """Return a section per study, in the order of reading, of `most_rows` table rows at most."""
    studies = in_order(studies_measured(models.run))
    breakdowns = {study: breakdowns_of(models, study) for study in studies}
    sections = [_section(models, study, drawings, breakdowns[study]) for study in studies]
    left = most_rows - sum(map(rows_of, sections))
    most = share_rows(
        [len(breakdown.positions) for each in breakdowns.values() for breakdown in each], left
    )
    return [
        replace(
            section,
            tables=[
                *section.tables,
                *(
                    to_table(models, breakdown, most, f"tables/{anchor(study)}.csv")
                    for breakdown in breakdowns[study]
                ),
            ],
        )
        for study, section in zip(studies, sections, strict=True)
    ]


def rows_of(section: Section) -> int:
    """Return how many rows the section's tables show together."""
    tables = [*section.tables, *([section.published] if section.published else [])]
    panels = section.heat.panels if section.heat else ()
    return sum(len(table.rows) for table in tables) + sum(len(panel.cells) for panel in panels)


def _section(
    models: ReportModels, study: str, drawings: Sequence[Drawing], breakdowns: Sequence[Breakdown]
) -> Section:
    """Return the section without its breakdowns."""
    known = EXPLAINED.get(study)
    return Section(
        key=anchor(study),
        title=study_title(study),
        findings=findings_of(models, study),
        pictures=pictures_of(study, drawings),
        heat=heat_maps(models, _heads_table(breakdowns)) if study == "rank" else None,
        tables=[*numbers_of(models, study), *verdicts_of(models, study)],
        published=published_table(published_of(study)),
        folded=len(models) > MOST_TOLD_APART,
        meaning=known.meaning if known else "",
        paper=known.paper if known else "",
    )


def lead_section(drawings: Sequence[Drawing]) -> Section | None:
    """Return the section of a sweep or a trajectory, or of many models, or None."""
    for key, title in (("series", "Over the range"), ("forest", "Side by side")):
        pictures = pictures_of(key, drawings)
        if pictures:
            return Section(key=key, title=title, findings=[], pictures=pictures)
    return None


def samples_section(models: ReportModels, stored: Mapping[str, Stored]) -> Section | None:
    """Return the section of the sample images, or None; `stored` maps models to their samples."""
    shown = [samples_of(model, models.run, stored.get(model.name)) for model in models]
    kept = [each for each in shown if each is not None]
    if not kept:
        return None
    return Section(
        key="samples",
        title="Class-token attention",
        findings=[each.caption for each in kept],
        samples=kept,
        meaning="The class token's row of the attention that the model uses, laid over each image: "
        "where the class is read from. Every map has its own scale, so brightness cannot be "
        "compared between maps.",
        paper="The paper shows no such maps.",
    )


def share_rows(sizes: Iterable[int], most: int) -> int:
    """Return the largest number of rows that every table can have within `most` together."""
    ordered = sorted(sizes)
    left = max(most, len(ordered))
    for index, size in enumerate(ordered):
        share = left // (len(ordered) - index)
        if size > share:
            return share
        left -= size
    return max(ordered, default=0)


def pictures_of(study: str, drawings: Sequence[Drawing]) -> list[Picture]:
    """Return the study's figures, whose names begin with its own."""
    found = []
    shown = [drawing for drawing in drawings if not drawing.name.startswith(REPLACED)]
    for number, drawing in enumerate(shown):
        if drawing.name == study or drawing.name.startswith(f"{study}_"):
            key = f"f{number}"
            found.append(
                Picture(
                    key=key,
                    name=drawing.name,
                    title=drawing.title,
                    caption=drawing.caption,
                    svg=embed_figure(drawing, key, f"{key}-caption"),
                )
            )
    return found


def numbers_of(models: ReportModels, study: str) -> list[Table]:
    """Return the table of the numbers for the whole source: models as columns."""
    mine = {key: rows for key, rows in models.headline.items() if key[0] == study}
    if not mine:
        return []
    several = len(models) > 1
    columns = [Column(label="metric"), Column(label="unit")]
    measured = [model for model in models if any(model.name in rows for rows in mine.values())]
    for model in measured:
        name = models.column(model) if several else "value"
        columns.append(Column(label=name, number=True))
    columns += [] if several else [Column(label="95 % interval")]
    columns += [Column(label="images", number=True), Column(label="remark")]
    lines = [_numbers_line(models, measured, rows) for rows in mine.values()]
    if not any(line[-1].text for line in lines):
        columns, lines = columns[:-1], [line[:-1] for line in lines]
    caption = f"{study_title(study)}: all numbers for the whole source"
    return [
        Table(
            key=f"{anchor(study)}-numbers",
            caption=caption,
            columns=columns,
            rows=lines,
            total=len(lines),
            long=len(models) > FEW,
        )
    ]


def _numbers_line(
    models: ReportModels, measured: Sequence[ReportModel], rows: Mapping[str, Row]
) -> list[Cell]:
    some = next(iter(rows.values()))
    arrow = ARROWS[direction(models.run, some)]
    cells = [
        Cell(text=f"{metric_label(some.metric)} {arrow}".strip()),
        Cell(text=unit_label(show_row(some).unit)),
    ]
    if len(models) == 1:
        cells += [Cell(text=show_row(some).value), Cell(text=show_row(some).interval)]
    else:
        cells += [value_cell(rows.get(model.name)) for model in measured]
    images = sorted({row.images for row in rows.values()})
    return [
        *cells,
        Cell(text=" / ".join(f"{count:,}" for count in images)),
        Cell(text=sanitize(_remark(measured, rows), LONGEST_NOTE)),
    ]


def _remark(models: Sequence[ReportModel], rows: Mapping[str, Row]) -> str:
    """Return the reasons of a metric's rows, each with the markers of the models that it is of."""
    owners: dict[str, str] = {}
    for model in models:
        row = rows.get(model.name)
        if row is not None and row.reason:
            owners[row.reason] = owners.get(row.reason, "") + model.symbol
    if set(owners.values()) == {"".join(model.symbol for model in models)}:
        return next(iter(owners))
    return "; ".join(f"{markers} {reason}" for reason, markers in owners.items())


def verdicts_of(models: ReportModels, study: str) -> list[Table]:
    """Return the table of the study's verdicts, with what decided each."""
    mine = [verdict for verdict in models.run.verdicts if verdict.study == study]
    if not mine:
        return []
    several = len(models) > 1
    symbols = {model.name: f"{model.symbol} {model.label}" for model in models}
    lines = []
    for each in mine:
        at = "".join(f", {sanitize(key)} {sanitize(value)}" for key, value in each.at.items())
        said = say_verdict(each)
        cells = [
            Cell(text=sanitize(each.name.replace("_", " "), LONGEST_NOTE) + at),
            Cell(text=f"{MARK if said.look else ''} {said.text}".strip()),
            Cell(text=say_reason(each.reason)),
        ]
        first = [Cell(text=symbols.get(each.subject, sanitize(each.subject)))] if several else []
        lines.append([*first, *cells])
    columns = [Column(label=name) for name in ("question", "verdict", "decided by")]
    return [
        Table(
            key=f"{anchor(study)}-verdicts",
            caption=f"{study_title(study)}: verdicts",
            columns=[*([Column(label="model")] if several else []), *columns],
            rows=lines,
            total=len(lines),
            long=len(models) > PAIR or len(lines) > MANY_VERDICTS,
            file="run.json",
        )
    ]


def published_table(rows: Sequence[Published]) -> Table | None:
    """Return the paper's numbers for a study as a table of their own, or None."""
    if not rows:
        return None
    columns = [
        Column(label="model"),
        Column(label="number"),
        Column(label="published", number=True),
        Column(label="images"),
        Column(label="how"),
        Column(label="where"),
    ]
    lines = [
        [
            Cell(text=text)
            for text in (row.subject, row.number, row.shown, row.source, row.protocol, row.table)
        ]
        for row in rows
    ]
    caption = f"{study_title(rows[0].study)}: published in the paper, not measured here"
    return Table(
        key=f"{anchor(rows[0].study)}-published",
        caption=caption,
        columns=columns,
        rows=lines,
        total=len(lines),
    )


def _heads_table(breakdowns: Sequence[Breakdown]) -> str:
    """Return the id of the table by layer and head."""
    return next(
        (breakdown.key for breakdown in breakdowns if {"layer", "head"} <= set(breakdown.keys)), ""
    )
