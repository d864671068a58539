"""Cue-conflict images: shape and texture categories from file names (Geirhos et al. 2019)."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from illama.sources.groups import with_groups
from illama.sources.source import Source, SourceError

_NAME = re.compile(
    r"(?P<shape_id>(?P<shape>[^\W\d][\w ]*?)\d+)-(?P<texture_id>(?P<texture>[^\W\d][\w ]*?)\d+)"
)
"""`cat7-elephant2`: shape, number, texture, number."""
_RECOGNISED = 0.5
"""Smallest share of names of this form in a folder recognised as cue-conflict."""


def read_name(stem: str) -> tuple[str, str] | None:
    """Return shape and texture of a file's name without extension; None if it has another form."""
    found = _NAME.fullmatch(stem)
    return None if found is None else (found["shape"], found["texture"])


def group_cues(source: Source) -> Source:
    """Return a source whose pictures of one shape, and those of one texture, are groups.

    The names of the images end in SHAPE1-TEXTURE2: 1,200 pictures of 160 shapes and 48 textures are
    not 1,200 independent ones.
    """
    found = [_NAME.fullmatch(each.rpartition("/")[2]) for each in source.ids]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return source
    ways = {"shape": "shape_id", "texture": "texture_id"}
    return with_groups(source, {way: [each[name] for each in known] for way, name in ways.items()})


def attach_cues(source: Source) -> Source:
    """Return a source of class folders with the cues in its file names, if it has any.

    Folders are shapes, and files are named SHAPE1-TEXTURE2. The categories are all that occur, in
    sorted order; pictures of one shape or one texture are groups.

    Raises:
        SourceError: most names have this form, and some do not, or name another shape than their
            folder.
    """
    if source.labels is None or source.classes is None:
        return source
    shapes = [source.classes[label] for label in source.labels]
    read = [read_name(each.rpartition("/")[2]) for each in source.ids]
    fitting = [
        each is not None and each[0] == shape for each, shape in zip(read, shapes, strict=True)
    ]
    if np.mean(fitting) < _RECOGNISED:
        return source
    if not all(fitting):
        wrong = [name for name, fits in zip(source.ids, fitting, strict=True) if not fits]
        raise SourceError(
            f"{source.name}: {len(wrong)} of {len(fitting)} file names have no texture (first:"
            f" {wrong[0]!r}); name them SHAPE1-TEXTURE2, in a folder SHAPE"
        )
    cues = [each for each in read if each is not None]
    categories = tuple(sorted({name for pair in cues for name in pair}))
    number = {name: index for index, name in enumerate(categories)}
    numbered = np.array([[number[name] for name in pair] for pair in cues], np.int64)
    return group_cues(replace(source, cues=numbered, categories=categories))
