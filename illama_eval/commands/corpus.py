"""`illama-eval report --corpus`: a table of many models, made from headlines that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from illama.files import replacing
from illama_eval.compare.corpus import keep_in_corpus, read_corpus, read_provenance
from illama_eval.compare.model_table import ModelTable
from illama_eval.render.format.glossary import in_order, study_title
from illama_eval.render.page.corpus import corpus_document
from illama_eval.render.page.html import render_page
from illama_eval.render.tables.models import models_to_csv, models_to_latex


def report_corpus(path: Path, runs: Sequence[Path] = (), out: Path | None = None) -> list[Path]:
    """Keep runs in the corpus of a list, then write its page, CSV and LaTeX; return their paths.

    They are written beside the list, or into `out`.

    Raises:
        ResultError: the list or a run cannot be read, or they do not fit each other.
        CheckpointError: a file cannot be written.
    """
    for run in runs:
        keep_in_corpus(run, path)
    table = read_corpus(path)
    folder = out or path.parent
    folder.mkdir(parents=True, exist_ok=True)
    command = f"illama-eval report --corpus {path.name}"
    document = corpus_document(table, read_provenance(path), command)
    texts = {
        "corpus.html": render_page(document),
        "corpus.csv": models_to_csv(table),
        "corpus.tex": "\n".join(_latex(table)),
    }
    for name, text in texts.items():
        with replacing(folder / name) as stream:
            stream.write(text.encode("utf-8"))
    log = Console(stderr=True, highlight=False)
    log.print(f"written to {folder / 'corpus.html'}", markup=False, soft_wrap=True)
    return [folder / name for name in texts]


def _latex(table: ModelTable) -> Iterator[str]:
    """Yield a table for each study: all columns would not fit a page."""
    studies = dict.fromkeys(column.study for column in table.columns)
    for study in in_order(list(studies)):
        kept = [i for i, column in enumerate(table.columns) if column.study == study]
        rows = [replace(row, cells=tuple(row.cells[i] for i in kept)) for row in table.rows]
        part = replace(
            table,
            columns=tuple(table.columns[i] for i in kept),
            rows=tuple(row for row in rows if any(cell.row is not None for cell in row.cells)),
        )
        yield models_to_latex(part, "small", study_title(study), f"tab:corpus-{study}")
