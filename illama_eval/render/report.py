"""Reports of run directories, written as files: HTML, Markdown, tables and figures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from illama_eval.compare.gate import GateResult
from illama_eval.render.figures.canvas import Drawing
from illama_eval.render.figures.draw import draw_all, draw_embedded, write_figures
from illama_eval.render.figures.forest import draw_forest
from illama_eval.render.figures.series import draw_series
from illama_eval.render.models import ReportModels, load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.document import Document, to_text_table
from illama_eval.render.page.html import LARGEST, render_page
from illama_eval.render.page.markdown import report_markdown
from illama_eval.render.page.sections import MOST_ROWS
from illama_eval.render.samples import Samples, Segments, read_samples, read_segments
from illama_eval.render.style.figure import PAGE, FigureStyle, drawing_style
from illama_eval.render.tables.csv import write_tables
from illama_eval.render.tables.quantization import write_quantization
from illama_eval.render.tables.text import TableGroup, to_latex, to_markdown
from illama_eval.results import ResultError, files_of

COMPARISONS = Path("reports")
"""The folder of the default directories of reports of several runs."""
_LONGEST = 40
"""Characters of a model's name in a directory's name, at most."""
FEW_ROWS = 100
"""Rows of all tables together, of a page that would otherwise be too large."""


def render_directory(directory: Path) -> list[Path]:
    """Write tables/, figures/, report.html and report.md beside run.json; return the paths.

    Figures are written as SVG, which the page holds anyway: to draw each once more as PNG took a
    fifth of a small run. Equal runs give equal bytes. Every file but run.json may be missing.

    Raises:
        ResultError: there is no readable run.json, another file is damaged, or the report cannot
            be written.
    """
    return write_report([directory], figures=PAGE, endings=("svg",))


def write_report(
    directories: Sequence[Path],
    out: Path | None = None,
    result: GateResult | None = None,
    *,
    figures: FigureStyle | None = None,
    endings: tuple[str, ...] | None = None,
) -> list[Path]:
    """Write report.html, report.md and tables/ of one run, or of several side by side.

    The default `out` is the directory of one run; several have one in reports/ that is named after
    their models. `result` is that of a gate on a single run; `figures` is how the figures are drawn
    as files, too, and `endings` those of the files where not the style decides. Return the paths.

    Raises:
        ResultError: a directory holds no readable run, or the report cannot be written.
    """
    models = load_models(directories)
    alone = directories[0] if len(directories) == 1 else None
    target = out or alone or _comparison_out(models)
    segments = read_segments(alone) if alone else None
    samples = _samples(models)
    try:
        drawings = _draw(models, samples, segments, PAGE, every=figures == PAGE)
        drawn = []
        if figures is not None:
            same = figures == PAGE
            files = drawings if same else _draw(models, samples, segments, figures, every=True)
            drawn = write_figures(files, target / "figures", figures, endings)
        tables = write_tables(models.run, target / "tables")
        tables += write_quantization(alone, models.run, target / "tables") if alone else []
        shown = _shown_figures(target / "figures", drawn)
        return [*drawn, *tables, *_write_page(models, drawings, samples, target, shown, result)]
    except OSError as problem:
        raise ResultError(f"{target}: cannot be written ({problem.strerror})") from problem


def _draw(
    models: ReportModels,
    samples: Mapping[str, Samples],
    segments: Segments | None,
    style: FigureStyle,
    *,
    every: bool,
) -> list[Drawing]:
    """Return every figure, or those of a page alone; those of several models lead."""
    changes = models.changes_from_first("accuracy", "top1")
    with drawing_style(style):
        led = [*draw_series(models), *draw_forest(models)]
        if every:
            return led + draw_all(models.run, samples, segments, changes)
        return led + draw_embedded(models.run, segments, changes)


def _comparison_out(models: ReportModels) -> Path:
    """Return the default directory of a comparison, the same for the same runs alone."""
    first, *others = (re.sub(r"[^\w.+-]+", "-", model.label)[:_LONGEST] for model in models)
    more = others[0] if len(others) == 1 else f"{len(others)}-more"
    runs = (files_of(model.directory)[0].read_bytes() for model in models)
    digest = hashlib.sha256(b"".join(hashlib.sha256(run).digest() for run in runs))
    return COMPARISONS / f"comparison-{first}-and-{more}-{digest.hexdigest()[:8]}"


def _write_page(
    models: ReportModels,
    drawings: Sequence[Drawing],
    stored: Mapping[str, Samples],
    target: Path,
    figures: Mapping[str, str],
    result: GateResult | None,
) -> list[Path]:
    """Write the page in both forms, and the headline of several models as a table."""
    for document in _smaller_versions(models, drawings, stored, result):
        page = render_page(document)
        if len(page.encode("utf-8")) <= LARGEST:
            break
    texts = {"report.html": page, "report.md": report_markdown(document, figures)}
    if len(models) > 1:
        group = TableGroup(title=document.title, tables=[to_text_table(document.headline)])
        texts |= {"tables/models.md": to_markdown([group]), "tables/models.tex": to_latex([group])}
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8", newline="")
    return [target / name for name in texts]


def _shown_figures(directory: Path, drawn: Sequence[Path]) -> dict[str, str]:
    """Return the file of each figure that Markdown shows, by name: of those just drawn, if any.

    PNG comes first, because it is seen everywhere.
    """
    paths = drawn or sorted(directory.glob("*.*"))
    return {
        path.stem: path.name
        for ending in (".svg", ".png")
        for path in paths
        if path.suffix == ending
    }


def _samples(models: ReportModels) -> dict[str, Samples]:
    """Return the stored samples of the runs, each under the run's first model."""
    found = {model.name: read_samples(model.directory) for model in models if model.number == 0}
    return {name: samples for name, samples in found.items() if samples is not None}


def _smaller_versions(
    models: ReportModels,
    drawings: Sequence[Drawing],
    stored: Mapping[str, Samples],
    result: GateResult | None,
) -> Iterator[Document]:
    """Yield the whole report, then smaller and smaller ones that note what was left out."""
    yield document_of(models, drawings, stored, result=result)
    why = f"Left out, so that the page stays below {LARGEST // 10**6} MB: "
    small = f"most rows of the tables, which tables/ holds ({FEW_ROWS} are shown)"
    for drawn, rows, lacks in (
        (drawings, MOST_ROWS, "sample images."),
        (drawings, FEW_ROWS, f"sample images and {small}."),
        ((), FEW_ROWS, f"sample images, figures and {small}."),
    ):
        yield document_of(models, drawn, {}, most_rows=rows, left_out=[why + lacks], result=result)
