"""Suggestions for an unknown name: known names that are close to it, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 3
_LIKENESS = 0.6
"""Least ratio of difflib at which a name is suggested."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean cifar10?` for a name near a known one, or nothing.

    Case does not count, and a known name that begins with what was given is near.
    """
    names = {name.lower(): name for name in known}
    word = given.strip().lower()
    near = [names[each] for each in difflib.get_close_matches(word, names, _MOST, _LIKENESS)]
    begun = [name for each, name in names.items() if word and each.startswith(word)]
    found = list(dict.fromkeys([*near[:1], *begun, *near]))[:_MOST]
    return f"; did you mean {' or '.join(found)}?" if found else ""
