"""Groups of images that belong together: frames of a video, pictures of a patient or shape."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

from illama.sources.source import Source, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

WAY = "groups"
"""The way of grouping that a CSV of labels gives."""
COLUMNS = ("group", "groups")
"""The columns of a CSV of labels that name each image's group, in any case."""


def attach_groups(source: Source, labels: Path) -> Source:
    """Return a source that was labeled by a CSV with the groups in its column `group`, if any.

    The images are in the order of the CSV.

    Raises:
        SourceError: an image has no group, all have the same, or two columns name groups.
    """
    with labels.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    header = rows[0] if rows else ()
    columns = [name for name in header if name and name.strip().casefold() in COLUMNS]
    if not columns:
        return source
    if len(columns) > 1:
        raise SourceError(f"labels {labels}: {' and '.join(columns)} both name groups; keep one")
    names = [(row[columns[0]] or "").strip() for row in rows]
    if not all(names):
        raise SourceError(
            f"labels {labels}: {names.count('')} rows have no group; complete the column"
            f" {columns[0]}, or remove it"
        )
    return with_groups(source, {WAY: names})


def with_groups(source: Source, groups: Mapping[str, Sequence[str]]) -> Source:
    """Return the source with the groups of its images, in one way or in several that cross.

    A way in which every image is a group of its own says nothing, and is left out.

    Raises:
        SourceError: there is one group alone.
    """
    for names in groups.values():
        if len(set(names)) == 1:
            raise SourceError(
                f"{source.name}: all {len(names)} images are of the group {names[0]!r}; what"
                " another group would show cannot be told from one"
            )
    known = {way: tuple(names) for way, names in groups.items() if len(set(names)) < len(names)}
    return replace(source, groups=known or None)
