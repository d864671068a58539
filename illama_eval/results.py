"""What a run found, and its form on disk: rows, curves, verdicts under a header."""

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
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, TypeVar
from zipfile import ZipFile

import numpy as np
from msgspec import Meta, MsgspecError, Struct, ValidationError, field
from msgspec.json import decode
from msgspec.structs import asdict, replace
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Whole: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
At: TypeAlias = Mapping[str, Whole | str]


class Row(Struct, frozen=True, kw_only=True, eq=False, gc=False, forbid_unknown_fields=True):
    """One number with its interval; never percent, and None with a reason where undefined.

    A struct, not a dataclass: a run may have 100,000, and they are checked while they are decoded.
    `msgspec.structs.replace` is for it what `dataclasses.replace` is for a dataclass.
    """

    subject: str = ""
    source: str = ""
    study: str = ""
    metric: str
    value: Whole | float | None
    low: Whole | float | None = None
    high: Whole | float | None = None
    unit: str = "fraction"
    images: Whole
    at: At = field(default_factory=dict)
    reason: str = ""
    replicates: NDArray[np.float64] | None = None
    """The 200 replicate values behind the interval; stored in replicates.npz, not in run.json."""

    def __eq__(self, other: object) -> bool:
        """Return whether all that is written of both is equal: replicates are not."""
        return isinstance(other, Row) and _written_of(self) == _written_of(other)

    def __hash__(self) -> int:
        """Return a hash of what names the row, which equal rows share."""
        return hash((self.subject, self.source, self.study, self.metric))

    def __repr__(self) -> str:
        """Return metric, place, value and interval on one line."""
        at = f"[{_place(self.at)}]" if self.at else ""
        ends = [end for end in (self.low, self.high) if end is not None]
        known = "undefined" if self.value is None else f"{self.value:.4g}"
        interval = f" ({' to '.join(f'{end:.4g}' for end in ends)})" if ends else ""
        unit = "" if self.unit in {"", "fraction"} else f" {self.unit}"
        return f"<Row {self.subject}: {self.study}.{self.metric}{at} = {known}{interval}{unit}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are written to run.json, in their order."""
        return {**dict(zip(WRITTEN, _written_of(self), strict=True)), "at": dict(self.at)}


WRITTEN = tuple(name for name in Row.__struct_fields__ if name != "replicates")
"""The fields of a row in run.json, in their order."""
_written_of = attrgetter(*WRITTEN)


def name_of(row: Row) -> str:
    """Return the row's name in replicates.npz: subject, study, metric and place."""
    return f"{row.subject}/{row.study}/{row.metric}[{_place(row.at)}]"


def _place(at: At) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(at.items()))


TOO_FEW = "too few images: "
"""How the reason begins why a number has no interval, where more images would give it one."""

SCHEMA_VERSION = 2
UNBOUND_VERSION = 1
"""The schema before run.json named the digests of the files beside it; still read."""
CURVE_POINTS = 64
"""Most points that a stored curve may have."""

_KIND = attrgetter("subject", "study", "metric")


class ResultError(ValueError):
    """A run directory that cannot be read, or that does not fit what is asked of it."""

    exit_code: ClassVar[int] = 3


class Curve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line to be drawn, at most 64 points."""

    subject: str = ""
    study: str = ""
    name: str
    at: At = field(default_factory=dict)
    x: tuple[Whole | float, ...]
    y: tuple[Whole | float, ...]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or not 1 <= len(self.x) <= CURVE_POINTS:
            raise ValueError(f"curve {self.name}: needs 1 to {CURVE_POINTS} pairs of x and y")


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finding in words, with the threshold and the number that decided it."""

    subject: str = ""
    study: str = ""
    name: str
    at: At = field(default_factory=dict)
    verdict: str
    reason: str


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
            KeyError: no row, or more than one, fits.
        """
        found = [
            row
            for row in self.rows
            if (row.study, row.metric, dict(row.at)) == (study, metric, at)
            and subject in (None, row.subject)
        ]
        if len(found) != 1:
            raise KeyError(f"{len(found)} rows for {study}.{metric} at {at}")
        return found[0]

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
        """Return the rows with `at = {}` alone, with the replicates that lie beside `path`.

        Raises:
            ResultError: the replicates are damaged.
        """
        file, stored = files_of(path)
        try:
            table = _replicates(stored, headline=True)
        except ResultError as problem:
            raise ResultError(f"{file}: {problem}") from problem
        rows = (row for row in self.rows if not row.at)
        return Run(header=self.header, rows=_with_replicates(rows, table), files=self.files)

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

    def plot(self, name: str, *, directory: Path | str | None = None) -> Figure:
        """Return one of the run's figures, such as `reliability` or `rank_by_layer`.

        `directory` is where the run was read from: figures of sample images need its files.

        Raises:
            KeyError: the run has no such figure; the message lists those it has.
        """
        # By name, as pandas finds its plotting: reading a run must not know of drawing.
        draw = import_module("illama_eval.render.figures.draw")
        figure: Figure = draw.figure_named(self, name, directory and Path(directory))
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

        Replicates are attached where they lie beside it: in replicates.npz of the directory, or in
        the .npz of the file's name, unless `replicates` is False. With `headline` only rows with
        `at = {}` are kept, and neither curves nor verdicts.

        Raises:
            ResultError: there is no readable run, or its replicates are damaged.
        """
        file, stored = files_of(path)
        try:
            return _read(
                file.read_bytes(),
                _replicates(stored, headline=headline) if replicates else {},
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


def files_of(path: Path | str) -> tuple[Path, Path]:
    """Return where a run's JSON and its replicates are: in a directory, or a file and its .npz."""
    path = Path(path)
    if path.suffix == ".json" and path.name != "run.json" and not path.is_dir():
        return path, path.with_suffix(".npz")
    path = path.parent if path.name == "run.json" else path
    return path / "run.json", path / "replicates.npz"


def read_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz, those of `names` that it holds; no file is an empty one.

    Raises:
        ResultError: the file is damaged, or holds objects.
    """
    if not path.exists():
        return {}
    try:
        return load_arrays(path, names)
    except Exception as problem:
        raise ResultError(f"{path.name} beside it is damaged ({problem})") from problem


def load_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz, those of `names` that it holds.

    Raises:
        Exception: almost any, where the file is damaged, or holds objects.
    """
    with path.open("rb") as stream, NpzFile(stream, allow_pickle=False) as archive:
        return {name: archive[name] for name in names or archive if name in archive}


def _replicates(path: Path, *, headline: bool) -> dict[str, NDArray[np.float64]]:
    """Return the 200 replicates of each row that has them, by the row's name.

    Those of the headline come first in the file; `headline` leaves the rest unread.

    Raises:
        ResultError: the file is damaged.
    """
    if not path.exists():
        return {}
    names: list[str] = read_arrays(path, ("names",)).get("names", np.empty(0)).tolist()
    if headline:
        places = [number for number, name in enumerate(names) if name.endswith("[]")]
        names = names[: max(places, default=-1) + 1]
    try:
        return dict(zip(names, _first_rows(path, len(names)), strict=True))
    except Exception as problem:
        raise ResultError(f"{path.name} beside it is damaged ({problem})") from problem


def _first_rows(path: Path, count: int) -> NDArray[np.float64]:
    """Return the first rows of `replicates`, inflating no more than them."""
    with ZipFile(path) as archive, archive.open("replicates.npy") as stream:
        np.lib.format.read_magic(stream)
        (_, columns), by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        if by_columns or dtype != np.float64:
            raise ValueError("expected float64 rows")
        values = np.frombuffer(stream.read(count * columns * 8)).reshape(count, columns)
    if not np.isfinite(values).all():
        raise ValueError("a replicate is not finite")
    return values


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
        rows = _with_replicates(rows, table)
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


def _with_replicates(
    rows: Iterable[Row], table: Mapping[str, NDArray[np.float64]]
) -> tuple[Row, ...]:
    return tuple(replace(row, replicates=table.get(name_of(row))) for row in rows)


def replicate_table(rows: tuple[Row, ...]) -> dict[str, NDArray[Any]]:
    """Return the arrays of replicates.npz: `names`, and `replicates` float64 [row, 200].

    Rows for the whole source come first, so that a comparison need not read the rest.
    """
    kept = sorted((row for row in rows if row.replicates is not None), key=lambda row: bool(row.at))
    values = [row.replicates for row in kept if row.replicates is not None]
    return {
        "names": np.array([name_of(row) for row in kept], dtype=np.str_),
        "replicates": np.array(values, dtype=np.float64).reshape(len(kept), -1 if kept else 0),
    }


def _lines(items: Iterator[Any]) -> str:
    return ",\n".join(_dump(item) for item in items)


def _dump(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)


def nested_get(tree: object, *keys: str) -> Any:
    """Return what stands under the keys of nested mappings, or None."""
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree
