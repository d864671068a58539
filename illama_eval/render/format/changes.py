"""Changes as text: signed, in percent points, with digits that follow the interval."""

from __future__ import annotations

from dataclasses import dataclass

from illama_eval.compare.change import Change
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import ARROWS, metric_label, unit_label
from illama_eval.render.format.numbers import MISSING, show_number, signed

_SMALLEST_P = 1e-4
_ROUNDING = 1e-2
"""Share of the smallest difference that means something below which one is arithmetic's."""


@dataclass(frozen=True, kw_only=True)
class ShownChange:
    """A change's numbers as text; a dash where there is none."""

    name: str
    """Metric, `at`, unit, and an arrow to the better side."""
    baseline: str
    candidate: str
    difference: str
    interval: str
    """Ends of the 95 % interval of the difference, signed."""
    unit: str
    """Of the difference: pp for percent points."""
    p: str
    """Adjusted over the family; a dash outside it."""

    @property
    def full(self) -> str:
        """Difference, unit and interval in one phrase."""
        unit = f" {self.unit}" if self.unit else ""
        interval = "" if self.interval == MISSING else f" (95 % {self.interval})"
        return self.difference + unit + interval


def show_change(change: Change) -> ShownChange:
    """Return the change's numbers as text; fractions become percent."""
    unit = "%" if change.unit == "fraction" else unit_label(change.unit)
    at = "".join(f", {sanitize(key)} {sanitize(value)}" for key, value in change.at.items())
    named = f"{metric_label(change.metric)}{at}" + (f" ({unit})" if unit else "")
    known = change.low is not None and change.high is not None
    ends = [_signed(change, end) for end in (change.low, change.high)]
    return ShownChange(
        name=f"{named} {ARROWS[change.better]}".rstrip(),
        baseline=_unsigned(change, change.baseline),
        candidate=_unsigned(change, change.candidate),
        difference=_signed(change, change.difference),
        interval=" to ".join(ends) if known else MISSING,
        unit="pp" if change.unit == "fraction" else unit,
        p=_show_p(change),
    )


def show_margin(change: Change, margin: float) -> str:
    """Return a margin with the unit of the change's difference."""
    unit = show_change(change).unit
    return signed(f"{margin * _scale(change):.4g} {unit}".rstrip())


def show_seeds(change: Change) -> str:
    """Return the interval over training seeds, or a dash."""
    if change.seeds_low is None or change.seeds_high is None:
        return MISSING
    half = (change.seeds_high - change.seeds_low) / 2 * _scale(change)
    ends = (_with_sign(end * _scale(change), half) for end in (change.seeds_low, change.seeds_high))
    return " to ".join(ends)


def _scale(change: Change) -> float:
    return 100.0 if change.unit == "fraction" else 1.0


def _half_width(change: Change) -> float:
    if change.low is None or change.high is None:
        return 0.0
    return (change.high - change.low) / 2 * _scale(change)


def _unsigned(change: Change, value: float | None) -> str:
    if value is None:
        return MISSING
    whole = change.low is None and change.unit != "fraction"
    return show_number(value * _scale(change), _half_width(change), whole=whole)


def _signed(change: Change, value: float | None) -> str:
    """Return a difference, or an end of its interval, with its sign; 0 where it means nothing.

    Where the two values are seen to differ, only what is rounding means nothing.
    """
    if value is None:
        return MISSING
    alike = _unsigned(change, change.baseline) == _unsigned(change, change.candidate)
    least = change.smallest if alike else _ROUNDING * change.smallest
    if max(abs(value), abs(change.difference or 0.0)) < least:
        return "0"
    return _with_sign(value * _scale(change), _half_width(change))


def _with_sign(value: float, half_width: float) -> str:
    text = show_number(value, half_width, whole=not half_width)
    return f"+{text}" if value > 0 and text.strip("0.,") else text


def _show_p(change: Change) -> str:
    if change.p_holm is None:
        return MISSING
    return f"{change.p_holm:.2g}" if change.p_holm >= _SMALLEST_P else f"<{_SMALLEST_P:.4f}"
