"""Folders of images: one directory per class, or flat, with or without a CSV of labels."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from illama.sources.contents import ContentHashes, hash_file
from illama.sources.listing import (
    IMAGE_SUFFIXES,
    LeftOutFiles,
    is_hidden,
    is_image,
    list_everything,
    list_folder,
)
from illama.sources.numbering import WRAPPER, Numbered, number_folders
from illama.sources.source import Source, SourceError, make_source
from illama.sources.tables import ANNOTATIONS, apply_labels
from illama.transforms import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray


def open_folder(root: Path, name: str, split: str, labels: Path | None) -> Source:
    """Open a folder of images; none is read yet.

    Raises:
        SourceError: no images, an empty class, images next to the classes, or unfit labels.
    """
    left_out = LeftOutFiles()
    names = sorted(_scan(root, left_out, labels))
    if not names:
        raise SourceError(
            f"{root} has no images ({', '.join(sorted(IMAGE_SUFFIXES))}){_found(left_out)}"
        )
    annotations = root / ANNOTATIONS
    if labels is None and annotations.is_file():
        labels = annotations
    kept, numbered = _label(root, names, labels, left_out)
    files = tuple(names[i] for i in kept)
    return make_source(
        name=name,
        split=split,
        names=unique_ids(files),
        labels=None if numbered is None else numbered.labels,
        classes=None if numbered is None else numbered.classes,
        further_labels=None if numbered is None else numbered.further,
        numbered="" if numbered is None else numbered.order,
        contents=ContentHashes(partial(_hash_file, root, files)),
        read=partial(_read_file, root, files),
        left_out=left_out.kinds(),
    )


def _label(
    root: Path, names: Sequence[str], labels: Path | None, left_out: LeftOutFiles
) -> tuple[Sequence[int], Numbered | None]:
    """Return the positions of the images that are kept, and their labels if there are any."""
    if labels is not None:
        listed = apply_labels(labels, names)
        left_out.add_unlisted(names, listed.kept, labels.name)
        return listed.kept, listed.numbered
    tops = {name.split("/", 1)[0] for name in names if "/" in name}
    if not tops or {top.lower() for top in tops} == {WRAPPER}:
        return range(len(names)), None
    numbered = number_folders(names, str(root))
    _check_no_empty_class(root, numbered.classes or ())
    return range(len(names)), numbered


def _found(left_out: LeftOutFiles) -> str:
    """Return in words what is there instead of images."""
    kinds = ", ".join(f"{each.files} {each.kind}" for each in left_out.kinds())
    return f", only {kinds}" if kinds else ""


def unique_ids(names: Sequence[str]) -> list[str]:
    """Drop the extensions, except where two names would become equal."""
    stems = [os.path.splitext(name)[0] for name in names]  # noqa: PTH122 - pathlib is 20x slower
    count = Counter(stems)
    return [stem if count[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]


def _scan(
    folder: Path,
    left_out: LeftOutFiles,
    labels: Path | None,
    prefix: str = "",
    above: tuple[str, ...] = (),
) -> Iterator[str]:
    """Yield the paths inside the set of the images below `folder`, and count the other files."""
    here = os.path.realpath(folder)
    if here in above:
        return  # a link to a folder above it
    for entry in list_everything(folder):
        name = prefix + entry.name
        if entry.is_dir():
            if is_hidden(entry.name):
                left_out.add_hidden_folder(Path(entry.path), name)
            else:
                yield from _scan(Path(entry.path), left_out, labels, f"{name}/", (*above, here))
        elif is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
            yield name  # a broken link is an unreadable image, not no image
        elif entry.name != ANNOTATIONS and (labels is None or entry.name != labels.name):
            left_out.add(name)


def _check_no_empty_class(root: Path, classes: Sequence[str]) -> None:
    folders = {entry.name for entry in list_folder(root) if entry.is_dir()}
    empty = sorted(folders - set(classes))
    if empty:
        raise SourceError(
            f"{root}: {len(empty)} of {len(folders)} class folders have no images (first:"
            f" {empty[0]!r}), which would shift the numbers of the others; fill or remove them"
        )


def _hash_file(root: Path, names: Sequence[str], position: int) -> str:
    return hash_file(root / names[position])


def _read_file(root: Path, names: Sequence[str], position: int) -> NDArray[np.uint8]:
    return decode(root / names[position])
