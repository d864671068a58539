"""A corpus of models: a list of runs, the headlines that are kept of them, and their table."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace as replace_row
from numpy.typing import NDArray

from illama.files import replacing
from illama_eval.compare.model_table import Column, ModelTable, parse_column, read_model_table
from illama_eval.compare.subject_run import key_of, read_subject_runs
from illama_eval.digests import bind
from illama_eval.results import ResultError, Row, Run, files_of, nested_get, replicate_table

COLUMNS = (
    *("top1", "nll", "ece", "ece_scaled", "calibration.temperature", "brier", "calibration.aurc"),
    *("shape_bias", "shape_bias.undecided"),
    *("rank", "rank_softmax", "rank_masked", "rank_per_image", "rank.effective_rank"),
    *("collapse.similarity", "collapse.raw_similarity", "collapse.entropy_share"),
    *("collapse.row_mass", "collapse.sink_share", "collapse.token_residual"),
    *("collapse.massive_ratio", "collapse.outlier_share", "collapse.reach"),
    *("collapse.feature_spread", "causality.kept_change"),
)
"""Columns of a corpus whose list names none."""
STEPS_PER_DEVIATION = 32
"""How finely replicates are kept: their rounding adds 1 % of their deviation, and an eighth of
their size is left."""
_KEPT = ("code", "versions", "device", "identity", "images_seen")
"""Parts of a header that comparing and provenance need, beside the declarations of metrics."""
_MODELS = "[models]"


@dataclass(frozen=True, kw_only=True)
class CorpusList:
    """The models of a corpus, as its list names them."""

    models: Mapping[str, str]
    """Name -> run directory or headline file, relative to the list; `A1,A2` are training seeds."""
    columns: Sequence[str] = COLUMNS
    references: Sequence[str] = ()
    """Models that others are compared with: each with the first that saw the same images."""
    chosen: bool = field(default=False)
    """Whether the list names its columns: then each must be in some run."""


def read_corpus_list(path: Path) -> CorpusList:
    """Read a list: TOML with `columns` and `references`, and a line NAME = RUN for each model.

    Raises:
        ResultError: it is missing, no TOML, or its fields are not such.
    """
    try:
        given = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as problem:
        raise ResultError(f"{path}: cannot be read ({problem.strerror})") from problem
    except (ValueError, RecursionError) as problem:
        raise ResultError(f"{path}: not a list of a corpus ({problem})") from problem
    unknown = given.keys() - {"models", "columns", "references"}
    models, lists = given.get("models", {}), [given.get(k, []) for k in ("columns", "references")]
    whole = isinstance(models, dict) and all(isinstance(run, str) for run in models.values())
    named = all(isinstance(names, list) and _are_words(names) for names in lists)
    if unknown or not whole or not named:
        raise ResultError(
            f"{path}: a list of a corpus has columns = [...], references = [...] and under"
            f" [models] lines NAME = RUN, each a text{_named(unknown)}"
        )
    columns, references = map(tuple, lists)
    return CorpusList(
        models=models, columns=columns or COLUMNS, references=references, chosen=bool(columns)
    )


def read_corpus(path: Path) -> ModelTable:
    """Return the table of the models in a list.

    Raises:
        ResultError: the list or a run cannot be read, or it names a column or a reference that is
            not there.
    """
    listed = read_corpus_list(path)
    if not listed.models:
        raise ResultError(
            f"{path}: lists no model; add runs: illama-eval report RUN --corpus {path}"
        )
    runs = {name: _located(path.parent, run) for name, run in listed.models.items()}
    columns = listed.columns if listed.chosen else _measured(listed.columns, runs.values())
    return read_model_table(
        list(runs.values()),
        columns,
        {run.split(",")[0]: name for name, run in runs.items()},
        listed.references,
    )


def read_provenance(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the header of each model in a list, by its name; of seeds that of the first.

    Raises:
        ResultError: the list or a run cannot be read.
    """
    listed = read_corpus_list(path)
    firsts = {name: path.parent / run.split(",")[0] for name, run in listed.models.items()}
    return {name: Run.load(run, replicates=False).header for name, run in firsts.items()}


def keep_in_corpus(run: Path, path: Path) -> Path:
    """Keep the headline of a run beside a list, and list it; return the headline's file.

    The headline is what the columns need: rows, replicates (rounded), and what the header says of
    images and model. A new model has the name of its directory; one that is listed is replaced.

    Raises:
        ResultError: the run cannot be read, or has several models or none of the columns.
        CheckpointError: a file cannot be written.
    """
    listed = read_corpus_list(path) if path.exists() else CorpusList(models={})
    name = run.name if run.suffix != ".json" else run.stem
    subjects = read_subject_runs(run)
    if len(subjects) > 1:
        raise ResultError(f"{run}: has {len(subjects)} models; a corpus takes a run of each")
    target = path.parent / f"{name}.json"
    write_headline(Run.load(run), target, listed.columns)
    if target.name not in listed.models.values():
        _add_line(path, name, target.name)
    return target


def write_headline(run: Run, target: Path, columns: Iterable[str]) -> None:
    """Write the rows of some columns to a file, and their replicates, rounded, to an .npz beside.

    Raises:
        ResultError: the run has none of the columns.
        CheckpointError: a file cannot be written.
    """
    parsed = [column for column in map(parse_column, columns) if column is not None]
    keys = {column.key for column in parsed}
    rows = tuple(
        replace_row(row, replicates=None if row.replicates is None else rounded(row.replicates))
        for row in run.rows
        if key_of(row) in keys
    )
    if not rows:
        raise ResultError(f"{target.stem}: its run has none of the columns of the corpus")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(files_of(target)[1]) as stream:
        np.savez_compressed(stream, allow_pickle=False, **replicate_table(rows))
    kept = bind(Run(header=_header(run, rows, parsed), rows=rows), target)
    with replacing(target) as stream:
        stream.write(re.sub(r"\n +", "", kept.to_json()).encode("utf-8"))  # the header in one line


def rounded(replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return replicates rounded to a power of two, some `STEPS_PER_DEVIATION` to a deviation."""
    deviation = float(np.std(replicates))
    if not deviation:
        return replicates
    step = 2.0 ** math.floor(math.log2(deviation / STEPS_PER_DEVIATION))
    return np.round(replicates / step) * step


def _header(run: Run, rows: Iterable[Row], columns: Iterable[Column]) -> dict[str, Any]:
    """Return what comparing and provenance need of a header."""
    metrics: dict[str, dict[str, Any]] = {}
    for column in columns:
        declared = nested_get(run.header, "metrics", column.study, column.metric)
        if declared is not None:
            metrics.setdefault(column.study, {})[column.metric] = declared
    kept = {key: run.header[key] for key in _KEPT if key in run.header}
    studies = nested_get(kept, "identity", "studies") or {}
    shown = {study: given for study, given in studies.items() if study in metrics}
    kept["identity"] = {**kept.get("identity", {}), "studies": shown}
    subject = next(row.subject for row in rows)
    return {**kept, "subjects": [{"name": subject}], "metrics": metrics}


def _measured(columns: Sequence[str], runs: Iterable[str]) -> list[str]:
    """Return the columns that some run has."""
    there = {
        key_of(row)
        for run in runs
        for path in run.split(",")
        for row in Run.load(path, replicates=False).rows
    }
    parsed = {name: parse_column(name) for name in columns}
    return [name for name, column in parsed.items() if column is not None and column.key in there]


def _located(folder: Path, run: str) -> str:
    """Return the paths of a line, those of its seeds too, from the folder of the list."""
    return ",".join(str(folder / part) for part in run.split(","))


def _add_line(path: Path, name: str, run: str) -> None:
    """Add a model to the end of a list, whose last part is [models]."""
    text = path.read_text("utf-8-sig") if path.exists() else ""
    if not re.search(rf"^{re.escape(_MODELS)}", text, re.MULTILINE):
        text += f"{_MODELS}\n"
    line = f"{json.dumps(name)} = {json.dumps(run)}\n"
    with replacing(path) as stream:
        stream.write((text.rstrip("\n") + "\n" + line).encode("utf-8"))


def _are_words(given: Iterable[object]) -> bool:
    return all(isinstance(each, str) for each in given)


def _named(unknown: Iterable[str]) -> str:
    names = ", ".join(map(repr, sorted(unknown)))
    return f"; it has {names}" if names else ""
