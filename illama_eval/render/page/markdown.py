"""The report as Markdown: the same contents as the HTML page, for code hosts and mail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from illama_eval.render.format.escape import markdown_cell
from illama_eval.render.page.document import Document, Section, Table, to_text_table
from illama_eval.render.tables.text import pipe_table


def report_markdown(document: Document, figures: Mapping[str, str] | None = None) -> str:
    """Return the report; `figures` are the files in figures/ beside it, by the figures' names.

    Long tables are left to their files.
    """
    shown = figures or {}
    judgement = document.judgement
    blocks = [
        f"# {markdown_cell(document.title)}",
        f"**{judgement.symbol} {judgement.word}.** {markdown_cell(judgement.sentence)}",
        *(f"**!** {markdown_cell(box)}" for box in document.boxes),
        "\n".join(
            [
                *(
                    f"- {subject.symbol} **{markdown_cell(subject.name)}**: "
                    f"{markdown_cell(' · '.join(subject.facts))}"
                    for subject in document.subjects
                ),
                f"- measured on {markdown_cell(' · '.join(document.source))}",
                *(f"- {markdown_cell(remark)}" for remark in document.remarks),
            ]
        ),
        _table(document.headline) if document.headline.rows else "",
        document.headline_note,
        *(block for section in document.all_sections for block in _section(section, shown)),
    ]
    return "\n\n".join(filter(None, [*blocks, *_closing(document)])) + "\n"


def _section(section: Section, figures: Mapping[str, str]) -> Iterator[str]:
    yield f"## {markdown_cell(section.title)}"
    yield from map(markdown_cell, section.findings)
    for picture in section.pictures:
        if picture.name in figures:
            title = markdown_cell(picture.title)
            file = f"figures/{figures[picture.name]}"
            yield f"![{title}]({file})\n\n*{markdown_cell(picture.caption)}*"
    for table in section.tables:
        if table.long:
            where = table.file or "report.html"  # what has no file of its own is on the page
            yield f"{markdown_cell(table.caption)}: {table.total} rows in `{where}`."
        else:
            yield _table(table)
    if section.published:
        yield _table(section.published)
    if section.meaning:
        yield f"{section.meaning} *In the paper:* {section.paper}"


def _closing(document: Document) -> Iterator[str]:
    if document.not_run:
        yield "## Not measured"
        yield "\n".join(f"- {title}: `{command}`" for title, command in document.not_run)
    yield "## Provenance"
    if document.command:
        yield "\n".join(f"    {line}" for line in document.command)
    yield "## Method notes"
    yield from document.notes


def _table(table: Table) -> str:
    text = to_text_table(table)
    lines = pipe_table(text.head, text.lines, text.right)
    return f"**{markdown_cell(text.title)}**\n\n{lines}"
