"""What a run found, and its form on disk: rows, curves, verdicts under a header."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
CURVE_POINTS = 64
"""Most points that a stored curve may have."""

At: TypeAlias = Mapping[str, int | str]


class ResultError(ValueError):
    """A run directory that cannot be read, or that does not fit what is asked of it."""

    exit_code: ClassVar[int] = 3


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number with its interval; never percent, and None with a reason where undefined."""

    subject: str = ""
    source: str = ""
    study: str = ""
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = "fraction"
    images: int
    at: At = field(default_factory=dict)
    reason: str = ""
    replicates: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)
    """The 200 replicate values behind the interval; stored in replicates.npz, not in run.json."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line to be drawn, at most 64 points."""

    subject: str = ""
    study: str = ""
    name: str
    at: At = field(default_factory=dict)
    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or not 1 <= len(self.x) <= CURVE_POINTS:
            raise ValueError(f"curve {self.name}: needs 1 to {CURVE_POINTS} pairs of x and y")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A finding in words, with the threshold and the number that decided it."""

    subject: str = ""
    study: str = ""
    name: str
    at: At = field(default_factory=dict)
    verdict: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished measurement: the source of truth that everything rendered is made from."""

    header: Mapping[str, Any]
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

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

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a table, one column per field and per key of `at`."""
        import pandas as pd  # noqa: PLC0415 - reading a run needs no pandas

        plain = [_plain(row) for row in self.rows]
        return pd.DataFrame(
            [{**{k: v for k, v in p.items() if k != "at"}, **p["at"]} for p in plain]
        )

    def to_json(self) -> str:
        """Return run.json: no time, no duration, one row per line; equal runs give equal text."""
        parts = {
            "rows": map(_plain, self.rows),
            "curves": map(asdict, self.curves),
            "verdicts": map(asdict, self.verdicts),
        }
        head = _dump({"schema_version": SCHEMA_VERSION, "header": dict(self.header)}, indent=1)
        blocks = [f'"{name}": [\n{_lines(items)}\n]' for name, items in parts.items()]
        return head.rstrip("}").rstrip() + ",\n" + ",\n".join(blocks) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Return the run that `to_json` wrote.

        Raises:
            ResultError: the text is no JSON, or of another schema version.
        """
        try:
            data = json.loads(text)
            version = data["schema_version"]
            if version != SCHEMA_VERSION:
                raise ResultError(
                    f"run.json: schema version {version}, this program reads {SCHEMA_VERSION}"
                )
            return cls(
                header=data["header"],
                rows=tuple(Row(**row) for row in data["rows"]),
                curves=tuple(
                    Curve(**{**curve, "x": tuple(curve["x"]), "y": tuple(curve["y"])})
                    for curve in data["curves"]
                ),
                verdicts=tuple(Verdict(**verdict) for verdict in data["verdicts"]),
            )
        except (json.JSONDecodeError, KeyError, TypeError) as problem:
            raise ResultError(f"run.json: not a run ({problem})") from problem

    @classmethod
    def load(cls, directory: Path | str) -> Run:
        """Return the run in a directory; its replicates are attached where replicates.npz lies.

        Raises:
            ResultError: there is no readable run.json.
        """
        path = Path(directory) / "run.json"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as problem:
            raise ResultError(f"{path}: cannot be read ({problem.strerror})") from problem
        run = cls.from_json(text)
        stored = path.with_name("replicates.npz")
        if not stored.exists():
            return run
        with np.load(stored, allow_pickle=False) as archive:
            table = dict(zip(archive["names"].tolist(), archive["replicates"], strict=True))
        rows = tuple(
            Row(**{**_shallow(row), "replicates": table.get(name_of(row))}) for row in run.rows
        )
        return cls(header=run.header, rows=rows, curves=run.curves, verdicts=run.verdicts)


def name_of(row: Row) -> str:
    """Return the row's name in replicates.npz: subject, study, metric and place."""
    place = ",".join(f"{key}={value}" for key, value in sorted(row.at.items()))
    return f"{row.subject}/{row.study}/{row.metric}[{place}]"


def replicate_table(rows: tuple[Row, ...]) -> dict[str, NDArray[Any]]:
    """Return the arrays of replicates.npz: `names`, and `replicates` float64 [row, 200]."""
    kept = [row for row in rows if row.replicates is not None]
    values = [row.replicates for row in kept if row.replicates is not None]
    return {
        "names": np.array([name_of(row) for row in kept], dtype=np.str_),
        "replicates": np.array(values, dtype=np.float64).reshape(len(kept), -1 if kept else 0),
    }


def _shallow(row: Row) -> dict[str, Any]:
    return {item.name: getattr(row, item.name) for item in fields(row)}


def _plain(row: Row) -> dict[str, Any]:
    plain = _shallow(row)
    del plain["replicates"]
    plain["at"] = dict(row.at)
    return plain


def _lines(items: Iterator[Any]) -> str:
    return ",\n".join(_dump(item) for item in items)


def _dump(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
