"""Files beside the images: a CSV of labels, and a list of classes to keep."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from illama.source_names import CLASS_SUBSETS
from illama.sources.imagenet import index_of_wnids, read_real_labels, variant_indices
from illama.sources.numbering import WRAPPER, Numbered, number_values
from illama.sources.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

ANNOTATIONS = "val_annotations.txt"
"""Tiny-ImageNet's table of the labels of its validation images, beside their folder."""
_FILE_COLUMNS = ("file", "image")
_DEVKIT = re.compile(r"ILSVRC\d{4}_(validation|test)_ground_truth", re.IGNORECASE)
"""ImageNet's own list of labels: one ILSVRC2012_ID, from 1, a line."""


@dataclass(frozen=True)
class Labeled:
    """The images that a table lists."""

    kept: list[int]
    """Positions among all images."""
    numbered: Numbered


def apply_labels(path: Path, names: Sequence[str]) -> Labeled:
    """Read a CSV with the columns file (or image) and label, and look its files up in `names`.

    Files are named with or without their extension, relative to the set. Whole numbers are indices
    of the head; other labels are class names, numbered in sorted order. Tiny-ImageNet's
    `val_annotations.txt` and the reassessed labels of ImageNet (`real.json`) are read as well.

    Raises:
        SourceError: unreadable, columns missing, a file unknown or listed twice, or labels that
            are partly numbers.
    """
    if path.suffix == ".json":
        kept, classes = read_real_labels(path, names)
        return Labeled(kept, Numbered(classes[:, 0], None, further=classes[:, 1:]))
    rows = _read_annotations(path) if path.name == ANNOTATIONS else _read_rows(path)
    position = {str(PurePosixPath(name).with_suffix("")): i for i, name in enumerate(names)}
    position |= {name: i for i, name in enumerate(names)}
    kept = [position.get(str(PurePosixPath(file.replace("\\", "/"))), -1) for file, _ in rows]
    if -1 in kept:
        missing = rows[kept.index(-1)][0]
        raise SourceError(
            f"{path}: {kept.count(-1)} of {len(rows)} files are not among the images"
            f" (first: {missing!r}); give paths relative to the set"
        )
    if len(set(kept)) < len(kept):
        raise SourceError(f"{path}: {len(kept) - len(set(kept))} files are listed more than once")
    return Labeled(kept, number_values([label for _, label in rows], str(path)))


def read_class_subset(given: str | Path) -> tuple[int, ...]:
    """Return the head's indices to keep: those of an ImageNet variant by its name, or a file's.

    The file has one a line: whole numbers, or WordNet ids of ImageNet-1k.

    Raises:
        SourceError: unreadable, empty, repeated, or neither a number nor a known WordNet id.
    """
    if given in CLASS_SUBSETS:
        return variant_indices(str(given))
    path = Path(given)
    try:
        entries = path.read_text("utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"class subset {path} cannot be read ({error})") from None
    index_of = index_of_wnids()
    unknown = next((e for e in entries if not e.isdecimal() and e not in index_of), None)
    if unknown is not None:
        raise SourceError(
            f"class subset {path}: {unknown!r} is neither an index nor an ImageNet-1k WordNet id"
        )
    subset = tuple(int(entry) if entry.isdecimal() else index_of[entry] for entry in entries)
    if not subset or len(set(subset)) < len(subset):
        raise SourceError(f"class subset {path} is empty or repeats an index; list each class once")
    return subset


def read_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file that are not blank, without the spaces around them.

    Raises:
        SourceError: it cannot be read, or has none.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read ({error})") from None
    kept = tuple(filter(None, map(str.strip, lines)))
    if not kept:
        raise SourceError(f"{path} is empty; write one name a line")
    return kept


def _read_rows(path: Path) -> list[tuple[str, str]]:
    if _DEVKIT.match(path.name):
        raise SourceError(
            f"labels {path}: these are the development kit's ILSVRC2012_IDs, from 1 and in another"
            " order than the head's; give a CSV file,label with the WordNet ids of its meta.mat, or"
            " sort the images into folders named by them"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"labels {path} cannot be read ({error})") from None
    columns = list(table[0]) if table else []
    column = next((name for name in _FILE_COLUMNS if name in columns), None)
    if column is None or "label" not in columns:
        raise SourceError(f"labels {path}: expected the columns file,label, found {columns}")
    rows = [((row[column] or "").strip(), (row["label"] or "").strip()) for row in table]
    if not all(file and label for file, label in rows):
        raise SourceError(f"labels {path}: a row has no file or no label; complete the table")
    return rows


def _read_annotations(path: Path) -> list[tuple[str, str]]:
    """Return the files and labels of Tiny-ImageNet's table."""
    rows = [line.split("\t") for line in read_lines(path)]
    if any(len(row) < 2 for row in rows):  # noqa: PLR2004 - a file and its class
        raise SourceError(f"{path}: a line has no class; unpack Tiny-ImageNet again")
    return [(f"{WRAPPER}/{row[0]}", row[1]) for row in rows]
