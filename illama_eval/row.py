"""One number with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, TypeAlias

import numpy as np
from msgspec import Meta, Struct, field
from numpy.typing import NDArray

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

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are written to run.json, in their order."""
        return {**dict(zip(WRITTEN, _written_of(self), strict=True)), "at": dict(self.at)}


WRITTEN = tuple(name for name in Row.__struct_fields__ if name != "replicates")
"""The fields of a row in run.json, in their order."""
_written_of = attrgetter(*WRITTEN)


def name_of(row: Row) -> str:
    """Return the row's name in replicates.npz: subject, study, metric and place."""
    place = ",".join(f"{key}={value}" for key, value in sorted(row.at.items()))
    return f"{row.subject}/{row.study}/{row.metric}[{place}]"
