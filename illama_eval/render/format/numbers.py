"""Numbers as text: percent, digits that follow the interval, a true minus."""

from __future__ import annotations

import math
from dataclasses import dataclass

from illama_eval.results import Row

MISSING = "\N{EM DASH}"
_MINUS = "\N{MINUS SIGN}"
_DIGITS = 4
"""Significant digits of a number without an interval."""
_SMALLEST = 1e-4
"""Below this a number is written with its power of ten."""
_MOST_DECIMALS = 5
_FINEST = 10.0**-_MOST_DECIMALS
_NARROWEST = 1e-6
"""An interval narrower than this share of the value does not set the digits."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A row's numbers as text; `low` and `high` are empty where there is no interval."""

    value: str
    low: str
    high: str
    unit: str

    @property
    def interval(self) -> str:
        """The interval in words: `76.51 to 78.16`, or a dash."""
        return f"{self.low} to {self.high}" if self.low else MISSING

    @property
    def full(self) -> str:
        """Value, interval and unit in one phrase: `77.34 % (76.51 to 78.16)`."""
        unit = f" {self.unit}" if self.unit and self.value != MISSING else ""
        return self.value + unit + (f" ({self.interval})" if self.low else "")


def show_row(row: Row) -> Shown:
    """Return the row's numbers as text; fractions become percent here and nowhere else."""
    scale, unit = _scale(row)
    value, half = show_value(row), _half_width(row)
    if row.value is None or half is None:
        return Shown(value=value, low="", high="", unit=unit)
    if half <= _NARROWEST * abs(row.value * scale):
        return Shown(value=value, low=value, high=value, unit=unit)
    low, high = (show_number(end * scale, half) for end in (row.low, row.high) if end is not None)
    return Shown(value=value, low=low, high=high, unit=unit)


def show_value(row: Row) -> str:
    """Return the row's value alone, with the digits that its interval gives it."""
    if row.value is None:
        return MISSING
    scale, _ = _scale(row)
    value, half = row.value * scale, _half_width(row)
    if half is None and scale > 1 and 0 < abs(value) < _SMALLEST:
        return signed(f"{value:.4f}")
    if half is None:
        return show_number(value, whole=scale == 1)
    return show_number(value, half if half > _NARROWEST * abs(value) else 0.0)


def _scale(row: Row) -> tuple[float, str]:
    return (100.0, "%") if row.unit == "fraction" else (1.0, row.unit)


def _half_width(row: Row) -> float | None:
    if row.low is None or row.high is None:
        return None
    scale, _ = _scale(row)
    return (row.high * scale - row.low * scale) / 2


def show_number(value: float, half_width: float = 0.0, *, whole: bool = False) -> str:
    """Return a number with two significant digits of its interval's half-width.

    Without a half-width: four significant digits, and no decimals for a `whole` integer.
    """
    if not math.isfinite(value):
        return MISSING
    if whole and value == round(value):
        return signed(f"{value:,.0f}")
    if 0 < abs(value) < _SMALLEST and half_width < _FINEST:
        digits, power = f"{value:.1e}".split("e")
        return signed(f"{digits}e{int(power)}")
    return signed(f"{value:,.{_decimals(value, half_width)}f}")


def show_images(count: int) -> str:
    """Return a number of images in words: `1 image`, `2,500 images`."""
    return f"{count:,} image{'s' if count != 1 else ''}"


def signed(text: str) -> str:
    """Return the text with true minus signs; a zero has none."""
    is_zero = not text.strip("-0.,")
    return text.lstrip("-") if is_zero else text.replace("-", _MINUS)


def align(numbers: list[str]) -> list[str]:
    """Return the numbers padded with spaces on the right until their decimal points align."""
    tails = [len(number) - (number + ".").index(".") for number in numbers]
    longest = max(tails, default=0)
    return [
        number + " " * (longest - tail) if number else ""
        for number, tail in zip(numbers, tails, strict=True)
    ]


def _decimals(value: float, half_width: float) -> int:
    if half_width > 0:
        wanted = 1 - math.floor(math.log10(half_width))
    elif value:
        power = int(f"{value:.{_DIGITS - 1}e}".split("e")[1])  # of the rounded number
        wanted = _DIGITS - 1 - power
    else:
        wanted = 0
    return min(max(wanted, 0), _MOST_DECIMALS)
