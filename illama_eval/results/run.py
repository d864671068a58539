"""A finished run: its rows, curves and verdicts under a header, and its form on disk."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from msgspec import MsgspecError, Struct, ValidationError
from msgspec.json import decode
from msgspec.structs import asdict, replace
from numpy.typing import NDArray

from illama_eval.results.arrays import files_of, read_replicates, with_replicates
from illama_eval.results.rows import Curve, ResultError, Row, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCHEMA_VERSION = 2
UNBOUND_VERSION = 1
"""The schema before run.json named the digests of the files beside it; still read."""
_KIND = attrgetter("subject", "study", "metric")


Part = TypeVar("Part", Row, Curve, Verdict)


@dataclass(frozen=True, kw_only=True, repr=False)
class Run:
    """A finished measurement: the source of truth that everything rendered is made from."""

    header: Mapping[str, Any]
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    files: Mapping[str, str] | None = dataclasses.field(default_factory=dict)
    """sha256 of the files that were written with run.json, `replicates` and `per_image`; None in
    runs of schema 1, which name none."""

    @cached_property
    def by_metric(self) -> Mapping[tuple[str, str, str], Sequence[Row]]:
        """The rows by subject, study and metric, so that finding one is no walk through all."""
        found: defaultdict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for key, row in zip(map(_KIND, self.rows), self.rows, strict=True):
            found[key].append(row)
        return dict(found)

    def value(self, study: str, metric: str, subject: str | None = None, **at: int | str) -> Row:
        """Return the one row of this metric at this place.

        Raises:
            KeyError: no row, or more than one, fits; the message says what there is.
        """
        found = [
            row
            for row in self.rows
            if (row.study, row.metric, dict(row.at)) == (study, metric, at)
            and subject in (None, row.subject)
        ]
        if len(found) != 1:
            raise KeyError(self._why_not_one(study, metric, found))
        return found[0]

    def _why_not_one(self, study: str, metric: str, found: Sequence[Row]) -> str:
        """Return why not one row is of this metric at the place that was asked for."""
        if found:
            subjects = ", ".join(row.subject for row in found)
            return f"{len(found)} rows for {study}.{metric}: subject is one of {subjects}"
        rows = [row for row in self.rows if (row.study, row.metric) == (study, metric)]
        if rows:
            places = dict.fromkeys(", ".join(row.at) or "the whole" for row in rows)
            return f"{study}.{metric} has no such row; there are rows of {'; of '.join(places)}"
        metrics = dict.fromkeys(row.metric for row in self.rows if row.study == study)
        if metrics:
            return f"{study} has no metric {metric}; there are {', '.join(metrics)}"
        studies = dict.fromkeys(row.study for row in self.rows)
        return f"no study {study}; there are {', '.join(studies)}"

    def renamed(self, names: Mapping[str, str]) -> Run:
        """Return the run with other names for its subjects."""
        if all(old == new for old, new in names.items()):
            return self
        return dataclasses.replace(
            self,
            rows=_renamed(self.rows, names),
            curves=_renamed(self.curves, names),
            verdicts=_renamed(self.verdicts, names),
        )

    def headline(self, path: Path | str) -> Run:
        """Return the rows with `at = {}` alone, with the replicates that are beside `path`.

        Raises:
            ResultError: the replicates are damaged.
        """
        file, stored = files_of(path)
        try:
            table = read_replicates(stored, headline=True)
        except ResultError as problem:
            raise ResultError(f"{file}: {problem}") from problem
        rows = (row for row in self.rows if not row.at)
        return Run(header=self.header, rows=with_replicates(rows, table), files=self.files)

    def __repr__(self) -> str:
        """Return subjects, sources and studies with the number of rows, on one line."""
        names = [
            ", ".join(dict.fromkeys(getattr(row, name) for row in self.rows))
            for name in ("subject", "source", "study")
        ]
        return f"<Run of {names[0]} on {names[1]}: {len(self.rows):,} rows ({names[2]})>"

    def _repr_html_(self) -> str:
        """Return the rows of the whole source as a table, for notebooks."""
        rows = [row for row in self.rows if not row.at]
        shown = ("subject", "study", "metric", "value", "low", "high", "unit", "images")
        head = "".join(f"<th>{name}</th>" for name in shown)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(getattr(row, name))}</td>" for name in shown) + "</tr>"
            for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a table, one column per field and per key of `at`.

        Columns of `at` that hold whole numbers, such as layers and heads, are of pandas' Int64,
        missing where a row has no such key.
        """
        import pandas as pd  # noqa: PLC0415 - reading a run needs no pandas

        table = pd.DataFrame([{**row.to_dict(), **row.at} for row in self.rows]).drop(columns="at")
        keys = dict.fromkeys(key for row in self.rows for key in row.at)
        words = {key for row in self.rows for key, at in row.at.items() if isinstance(at, str)}
        whole = [key for key in keys if key not in words]
        return table.astype(dict.fromkeys(whole, "Int64"))

    def plot(
        self,
        name: str,
        *,
        directory: Path | str | None = None,
        style: Literal["page", "paper"] = "page",
        width: float | None = None,
        font_size: float | None = None,
    ) -> Figure:
        """Return one of the run's figures, such as `reliability` or `rank_by_layer`.

        `directory` is where the run was read from: figures of sample images need its files.
        `width` is in inches, `font_size` in points; their defaults are those of the style.

        Raises:
            KeyError: the run has no such figure; the message lists those it has.
            ValueError: the style, the width or the font size is none that can be drawn.
        """
        # By name, as pandas finds its plotting: reading a run must not know of drawing.
        draw = import_module("illama_eval.render.figures.draw")
        chosen = draw.FigureStyle(style, width, font_size)
        figure: Figure = draw.figure_named(self, name, directory and Path(directory), chosen)
        return figure

    def to_json(self) -> str:
        """Return run.json: no time, no duration, one row per line; equal runs give equal text."""
        parts = {
            "rows": (row.to_dict() for row in self.rows),
            "curves": map(asdict, self.curves),
            "verdicts": map(asdict, self.verdicts),
        }
        named = {"header": dict(self.header), "files": dict(self.files or {})}
        head = _dump({"schema_version": SCHEMA_VERSION, **named}, indent=1)
        blocks = [f'"{name}": [\n{_lines(items)}\n]' for name, items in parts.items()]
        return head.rstrip("}").rstrip() + ",\n" + ",\n".join(blocks) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Return the run that `to_json` wrote.

        Raises:
            ResultError: the text is no JSON, no run, or of another schema version.
        """
        try:
            return _read(text, {})
        except ResultError as problem:
            raise ResultError(f"run.json: {problem}") from problem

    @classmethod
    def load(cls, path: Path | str, *, headline: bool = False, replicates: bool = True) -> Run:
        """Return the run in a directory, or in a file of its own such as a baseline.

        Replicates are attached where they are beside it: in replicates.npz of the directory, or in
        the .npz of the file's name, unless `replicates` is False. With `headline` only rows with
        `at = {}` are kept, and neither curves nor verdicts.

        Raises:
            ResultError: there is no readable run, or its replicates are damaged.
        """
        file, stored = files_of(path)
        try:
            return _read(
                file.read_bytes(),
                read_replicates(stored, headline=headline) if replicates else {},
                headline=headline,
            )
        except OSError as problem:
            raise ResultError(f"{file}: cannot be read ({problem.strerror})") from problem
        except ResultError as problem:
            raise ResultError(f"{file}: {problem}") from problem


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else escape(str(value))


def _renamed(each: Iterable[Part], names: Mapping[str, str]) -> tuple[Part, ...]:
    return tuple(replace(part, subject=names.get(part.subject, part.subject)) for part in each)


class _Version(Struct):
    schema_version: int


class _Document(_Version):
    """run.json as it is decoded: every field is checked against its type on the way."""

    header: dict[str, Any]
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]
    verdicts: tuple[Verdict, ...]
    files: dict[str, str] | None = None


def _read(
    text: str | bytes, table: Mapping[str, NDArray[np.float64]], *, headline: bool = False
) -> Run:
    """Return the run in a text, with the replicates of the table.

    Raises:
        ResultError: the text is no JSON, no run, or of another schema version.
    """
    try:
        found = _decode(text)
    except ResultError:
        raise
    except UnicodeDecodeError as problem:
        raise ResultError("not a run (no UTF-8 text)") from problem
    except (MsgspecError, ValueError, RecursionError) as problem:
        raise ResultError(f"not a run ({problem})") from problem
    rows, curves, verdicts = found.rows, found.curves, found.verdicts
    if headline:
        rows, curves, verdicts = tuple(row for row in rows if not row.at), (), ()
    if table:
        rows = with_replicates(rows, table)
    files = None if found.schema_version == UNBOUND_VERSION else found.files
    return Run(header=found.header, rows=rows, curves=curves, verdicts=verdicts, files=files)


def _decode(text: str | bytes) -> _Document:
    try:
        found = decode(text, type=_Document)
    except ValidationError:
        _check_version(decode(text, type=_Version))
        raise
    _check_version(found)
    if found.schema_version == SCHEMA_VERSION and found.files is None:
        raise ResultError("not a run (it names no digests of its files)")
    return found


def _check_version(found: _Version) -> None:
    if found.schema_version not in {UNBOUND_VERSION, SCHEMA_VERSION}:
        raise ResultError(
            f"schema version {found.schema_version}, this program reads {SCHEMA_VERSION}; "
            "measure again"
        )


def _lines(items: Iterator[Any]) -> str:
    return ",\n".join(_dump(item) for item in items)


def _dump(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)


def nested_get(tree: object, *keys: str) -> Any:
    """Return the value under the keys of nested mappings, or None."""
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree
