"""What numbers of a unit can be: their range, and the smallest difference worth a mark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What a number of some unit can be."""

    lowest: float = -math.inf
    highest: float = math.inf
    smallest: float = 0.0
    """Differences below it mean nothing, whatever their interval: they are shown as 0."""

    @property
    def width(self) -> float:
        """The largest difference that two numbers can have."""
        return self.highest - self.lowest

    def holds(self, value: float) -> bool:
        """Return whether a number is possible, up to rounding."""
        return self.lowest - ROUNDING <= value <= self.highest + ROUNDING


ROUNDING = 1e-6
"""How far beyond its range a sum of rounded numbers may be."""

UNITS: Mapping[str, Unit] = {
    "fraction": Unit(lowest=0.0, highest=1.0, smallest=1e-4),
    "p": Unit(lowest=0.0, highest=1.0, smallest=1e-3),
    "cosine": Unit(lowest=-1.0, highest=1.0, smallest=1e-4),
    "kappa": Unit(lowest=-1.0, highest=1.0, smallest=1e-3),
    "squared distance": Unit(lowest=0.0, highest=2.0, smallest=1e-4),
    "nats": Unit(lowest=0.0, smallest=1e-4),
    "squared logit": Unit(lowest=0.0, smallest=1e-4),
    "index": Unit(lowest=0.0, smallest=1e-2),
    "factor": Unit(lowest=0.0, smallest=1e-3),
    "ratio": Unit(lowest=0.0),
    "patches": Unit(lowest=0.0, smallest=1e-2),
    "dB": Unit(smallest=1e-2),
    "images": Unit(lowest=0.0),
    "epoch": Unit(lowest=0.0),
}


def unit_of(name: str) -> Unit:
    """Return the unit of a row; one that is not known may be any number."""
    return UNITS.get(name, Unit())
