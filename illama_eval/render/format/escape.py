"""Escaping of names: one printable line, safe in a terminal, CSV, Markdown and XML."""

from __future__ import annotations

import re

_SPACES = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 and C1: terminal sequences, characters illegal in XML
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that reorder what is read
    "\ud800-\udfff\ufffe\uffff]"  # bytes that were no text; no characters at all
)
_MARKDOWN = re.compile(r"([\\`*{}\[\]<>|~!#&$]|(?<![^\W_])_|_(?![^\W_])|:(?=//))")
_JOINT = re.compile(r"(?<=[-_+. ])")
LONGEST_NAME = 48
"""Characters of a name out of a file, at most, in a line of text."""
LONGEST_NOTE = 300
"""Characters of a reason, a note or another text out of a file, at most."""
_FORMULA = ("=", "+", "-", "@")
_IN_ASCII = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{EM DASH}": "-",
        "\N{UPWARDS ARROW}": "^",
        "\N{DOWNWARDS ARROW}": "v",
        "\N{HORIZONTAL ELLIPSIS}": "~",
        "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}": ">",
        "\N{SUPERSCRIPT TWO}": "2",
    }
)


def sanitize(text: object, longest: int | None = None) -> str:
    """Return the text as one line of printable characters, cut in its middle if too long."""
    line = _UNSAFE.sub("", _SPACES.sub(" ", str(text))).strip()
    if longest is None or len(line) <= longest:
        return line
    tail = (longest - 1) // 2
    return line[: longest - 1 - tail] + "\N{HORIZONTAL ELLIPSIS}" + line[len(line) - tail :]


def break_name(text: str, longest: int) -> list[str]:
    """Return a name in lines of at most `longest` characters, broken at its joints if possible."""
    lines = [""]
    for piece in _JOINT.split(text):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > longest:
            lines.append("")
        lines[-1] += piece
    return [
        line[start : start + longest].strip()
        for line in map(str.rstrip, lines)
        for start in range(0, max(len(line), 1), longest)
    ]


def csv_cell(value: object) -> object:
    """Return numbers unchanged, None as empty, text so that no spreadsheet runs it as a formula."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    line = sanitize(value)
    return "'" + line if line.startswith(_FORMULA) else line


def markdown_cell(text: object) -> str:
    """Return the text for a cell of a Markdown table: it neither breaks the row nor marks up."""
    return _MARKDOWN.sub(r"\\\1", sanitize(text))


def encodable(text: str, encoding: str) -> str:
    """Return the text in characters that the encoding has: `-` for a minus, `?` for the unknown."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_IN_ASCII).encode(encoding, "replace").decode(encoding)
    return text
