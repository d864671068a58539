"""Small drawings in table cells: a number with its interval on a line."""

from __future__ import annotations

from markupsafe import Markup

_MIDDLE, _HALF = 80.0, 75.0
_BAND = Markup('<path class="f-hairline" d="{}"/>')
_MARK = Markup(
    '<svg class="mark" viewBox="0 0 160 14" aria-hidden="true">{band}'
    '<path class="s-axis" d="{axis}"/><path class="s-run1 wide" d="M{low} 7H{high}"/>'
    '<circle class="f-run1" cx="{value}" cy="7" r="3.5"/></svg>'
)


def interval_mark(low: float, value: float, high: float) -> Markup:
    """Return a dot with its interval on a line from 0 to 1."""
    return _draw("M5 3V11M5 7H155M155 3V11", low, value, high)


def difference_mark(low: float, value: float, high: float, margin: float = 0.0) -> Markup:
    """Return a dot with its interval on a line from -1 to 1: a rule at 0, the margin as a band."""
    reach = _HALF * min(margin, 1.0)
    band = f"M{_MIDDLE - reach:.1f} 0H{_MIDDLE + reach:.1f}V14H{_MIDDLE - reach:.1f}z"
    low, value, high = (place / 2 + 0.5 for place in (low, value, high))
    return _draw(f"M{_MIDDLE:.0f} 0V14", low, value, high, band if margin else "")


def _draw(axis: str, low: float, value: float, high: float, band: str = "") -> Markup:
    ends = (_MIDDLE + _HALF * min(max(2 * place - 1, -1.0), 1.0) for place in (low, value, high))
    low_end, middle, high_end = (f"{end:.1f}" for end in ends)
    shade = _BAND.format(band) if band else ""
    return _MARK.format(band=shade, axis=axis, low=low_end, value=middle, high=high_end)
