"""Reports of run directories: the page, its Markdown, tables and figures as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from illama_eval.compare.gate import GateResult
from illama_eval.render.figures.canvas import Drawing
from illama_eval.render.figures.draw import draw_all, draw_embedded, write_figures
from illama_eval.render.figures.segmentation import read_segments
from illama_eval.render.models import ReportModels, load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.document import Document, block_of
from illama_eval.render.page.html import LARGEST, render_page
from illama_eval.render.page.markdown import report_markdown
from illama_eval.render.page.sections import MOST_ROWS
from illama_eval.render.samples import Samples, read_samples
from illama_eval.render.tables.csv import write_tables
from illama_eval.render.tables.quantization import write_quantization
from illama_eval.render.tables.text import TableGroup, to_latex, to_markdown
from illama_eval.results import ResultError

COMPARISON = Path("reports") / "comparison"
"""Where a report of several runs goes if nothing else is asked for."""
FEW_ROWS = 100
"""Rows of all tables of a page that would be too large otherwise."""


def render_directory(directory: Path) -> list[Path]:
    """Write tables/, figures/, report.html and report.md beside run.json; return the paths.

    Equal runs give equal bytes. Every file but run.json may be missing.

    Raises:
        ResultError: there is no readable run.json, or another file is damaged.
    """
    lineup = load_models([directory])
    drawings = draw_all(lineup.run, read_samples(directory), read_segments(directory))
    figures = write_figures(drawings, directory / "figures")
    written = _write(lineup, drawings, directory, None)
    return [*figures, *written, *write_quantization(directory, lineup.run)]


def write_report(
    directories: Sequence[Path], out: Path | None = None, verdicts: GateResult | None = None
) -> list[Path]:
    """Write report.html, report.md and tables/ of one run, or of several side by side.

    One run's go into its own directory, several runs' into reports/comparison, if `out` does not
    say otherwise. `verdicts` is what a gate says of a single run. Return the paths.

    Raises:
        ResultError: a directory holds no readable run, or the report cannot be written.
    """
    lineup = load_models(directories)
    alone = directories[0] if len(directories) == 1 else None
    drawings = draw_embedded(lineup.run, read_segments(alone) if alone else None)
    return _write(lineup, drawings, out or alone or COMPARISON, verdicts)


def _write(
    lineup: ReportModels, drawings: Sequence[Drawing], target: Path, verdicts: GateResult | None
) -> list[Path]:
    stored = _samples(lineup)
    for document in _smaller_versions(lineup, drawings, stored, verdicts):
        page = render_page(document)
        if len(page.encode("utf-8")) <= LARGEST:
            break
    figures = {path.stem for path in (target / "figures").glob("*.png")}
    texts = {"report.html": page, "report.md": report_markdown(document, figures)}
    if len(lineup.models) > 1:
        beside = [TableGroup(title=document.title, blocks=[block_of(document.headline)])]
        texts |= {"tables/models.md": to_markdown(beside), "tables/models.tex": to_latex(beside)}
    try:
        paths = write_tables(lineup.run, target / "tables")
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8", newline="")
    except OSError as problem:
        raise ResultError(f"{target}: cannot be written ({problem.strerror})") from problem
    return [*paths, *(target / name for name in texts)]


def _samples(lineup: ReportModels) -> dict[str, Samples]:
    """Return the samples that lie beside the runs; a run has those of its first model."""
    found = {
        model.name: read_samples(model.directory) for model in lineup.models if model.number == 0
    }
    return {name: samples for name, samples in found.items() if samples is not None}


def _smaller_versions(
    lineup: ReportModels,
    drawings: Sequence[Drawing],
    stored: Mapping[str, Samples],
    verdicts: GateResult | None,
) -> Iterator[Document]:
    """Yield the report with all there is, then with less and less, each saying what it lacks."""
    yield document_of(lineup, drawings, stored, verdicts=verdicts)
    why = f"Left out, so that the page stays below {LARGEST // 10**6} MB: "
    small = f"most rows of the tables, which tables/ holds ({FEW_ROWS} are shown)"
    for drawn, rows, lacks in (
        (drawings, MOST_ROWS, "sample images."),
        (drawings, FEW_ROWS, f"sample images and {small}."),
        ((), FEW_ROWS, f"sample images, figures and {small}."),
    ):
        yield document_of(
            lineup, drawn, {}, most_rows=rows, left_out=[why + lacks], verdicts=verdicts
        )
