"""The font of the figures: the characters it has, and how wide a text is in it."""

from __future__ import annotations

from functools import cache, lru_cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import TextToPath

from illama_eval.render.format.escape import sanitize

FAMILY = "DejaVu Sans"
"""The font that comes with matplotlib, so that every machine draws alike."""
POINTS = 72.0
"""Points per inch."""
_HINTING = 1.02
"""How much wider a bitmap font can set a line than its outlines are."""


def drawable(text: object, longest: int | None = None) -> str:
    """Return the text as one line, a replacement character for each one that the font lacks."""
    known = _characters()
    return "".join(
        letter if ord(letter) in known else "\N{REPLACEMENT CHARACTER}"
        for letter in sanitize(text, longest)
    )


def text_width(text: str, size: float) -> float:
    """Return the width of the text in inches, at a font size in points.

    The font kerns within words alone, so that their widths add up.
    """
    words = text.split(" ")
    return size * (sum(map(_width, words)) + (len(words) - 1) * _width(" "))


def fit(text: str, size: float, width: float) -> str:
    """Return the text cut in its middle until it is at most `width` inches wide."""
    longest = len(text)
    while longest > 1 and text_width(sanitize(text, longest), size) > width:
        longest -= 1
    return sanitize(text, longest)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Return the text in lines of at most `width` inches; words too long for one are cut."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip(" ")
        if text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines += _pieces(word, size, width)
    return [line for line in lines if line]


def _pieces(word: str, size: float, width: float) -> list[str]:
    pieces = [""]
    for letter in word:
        if text_width(pieces[-1] + letter, size) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


@lru_cache(10_000)
def _width(word: str) -> float:
    """Return the width in inches at a size of one point."""
    font = FontProperties(family=FAMILY, size=1)
    width, _, _ = TextToPath().get_text_width_height_descent(word, font, ismath=False)
    return float(width) * _HINTING / POINTS


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FAMILY)).get_charmap())
