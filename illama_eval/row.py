"""One number with its interval, and how many of them are read back, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_NUMBERS = (int, float)
_PLACES = {int, str}
_NUMBERED = ("value", "low", "high")
_TEXTUAL = ("subject", "source", "study", "metric", "unit", "reason")
_TEXTS = attrgetter(*_TEXTUAL)

At: TypeAlias = Mapping[str, int | str]


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


_WRITTEN = tuple(item.name for item in fields(Row) if item.name != "replicates")
"""The fields of a row in run.json, in their order."""
_FIELDS = itemgetter(*_WRITTEN)


def name_of(row: Row) -> str:
    """Return the row's name in replicates.npz: subject, study, metric and place."""
    place = ",".join(f"{key}={value}" for key, value in sorted(row.at.items()))
    return f"{row.subject}/{row.study}/{row.metric}[{place}]"


def read_rows(
    plain: Sequence[dict[str, Any]], table: Mapping[str, NDArray[np.float64]]
) -> tuple[Row, ...]:
    """Return the rows, checked a column at a time where all of them look as they are written."""
    if not _is_sound(plain):
        return tuple(_read_row(row, table) for row in plain)
    rows = tuple(take(plain))
    for row in rows if table else ():
        object.__setattr__(row, "replicates", table.get(name_of(row)))
    return rows


def _is_sound(plain: Sequence[dict[str, Any]]) -> bool:
    """Return whether all rows have exactly the fields that are written, each of its type."""
    if set(map(len, plain)) != {len(_WRITTEN)}:
        return False
    try:
        columns = dict(zip(_WRITTEN, zip(*map(_FIELDS, plain), strict=True), strict=True))
    except KeyError:
        return False
    numbers = [columns[name] for name in _NUMBERED]
    texts = [columns[name] for name in _TEXTUAL]
    return (
        all(set(map(type, column)) == {str} for column in texts)
        and all(set(map(type, column)) <= {int, float, NoneType} for column in numbers)
        and all(all(map(math.isfinite, filter(None, column))) for column in numbers)
        and set(map(type, columns["images"])) == {int}
        and set(map(type, columns["at"])) == {dict}
        and {type(value) for at in columns["at"] for value in at.values()} <= _PLACES
    )


def take(each: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """Yield the rows of checked fields, which they keep: to set each field takes much longer."""
    new, put = object.__new__, object.__setattr__
    for values in each:
        row = new(Row)
        put(row, "__dict__", values)
        yield row


def _read_row(plain: dict[str, Any], table: Mapping[str, NDArray[np.float64]]) -> Row:
    """Return a row, refusing what is no number where a number belongs, and no text elsewhere."""
    row = Row(**plain)
    if table:
        object.__setattr__(row, "replicates", table.get(name_of(row)))
    for name in _NUMBERED:
        number = plain.get(name)
        if number is not None and (type(number) not in _NUMBERS or not math.isfinite(number)):
            raise TypeError(f"{row.study}.{row.metric}: {name} is no number")
    if type(row.images) is not int or set(map(type, _TEXTS(row))) != {str}:
        raise TypeError(f"{row.study}.{row.metric}: images must be whole, names must be text")
    if not set(map(type, mapping(row.at).values())) <= _PLACES:
        raise TypeError(f"{row.study}.{row.metric}: a place must be a whole number or text")
    return row


def mapping(value: Any) -> dict[str, Any]:
    """Return the value, which must be a mapping.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, dict):
        raise TypeError("a mapping is missing")
    return value
