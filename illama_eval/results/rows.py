"""What a run consists of: rows, curves and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
from msgspec import Meta, Struct, field
from numpy.typing import NDArray

Whole: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
At: TypeAlias = Mapping[str, Whole | str]


class ResultError(ValueError):
    """A run directory that cannot be read, or that does not fit what is asked of it."""

    exit_code: ClassVar[int] = 3


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

CURVE_POINTS = 64
"""Most points that a stored curve may have."""


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

    def __repr__(self) -> str:
        """Return name, place and number of points on one line."""
        at = f"[{_place(self.at)}]" if self.at else ""
        return f"<Curve {self.subject}: {self.study}.{self.name}{at}, {len(self.x)} points>"


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finding in words, with the threshold and the number that decided it."""

    subject: str = ""
    study: str = ""
    name: str
    at: At = field(default_factory=dict)
    verdict: str
    reason: str
