"""Cue-conflict pictures: categories of a head's classes, and tables of observers' decisions."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias

Kind = Literal["human", "model"]
Categories: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Names of categories, each with the head's indices that belong to it."""

IMAGENET_CLASSES = 1000
ENTRY_LEVEL: Mapping[str, tuple[int, ...]] = {
    name: tuple(indices)
    for name, indices in json.loads(
        files("illama_eval").joinpath("entry_level.json").read_text("utf-8")
    ).items()
}
"""Entry-level category -> indices of its ImageNet-1k classes, 207 in all (Geirhos et al. 2019)."""
COLUMNS = ("shape", "texture", "decision", "image")
"""Columns of a table of decisions, beside one of OBSERVER_COLUMNS."""
OBSERVER_COLUMNS: Mapping[str, Kind] = {"subject": "human", "model": "model"}
"""Column with the name of the observer -> what such observers are."""
NO_RESPONSE = ("na", "")


class CueConflictError(ValueError):
    """Categories that do not fit the head or the images; one line: what, where, what to do."""

    exit_code = 3


def choose_categories(
    names: Sequence[str], classes: int, *, table: Path | None = None, own: bool = False
) -> Categories:
    """Return the categories of a source's cues, in its order, for a head of `classes` outputs.

    `table` is a JSON file of name -> indices; without it, a head of 1000 classes has the 16
    entry-level categories, and the classes of a head that was trained on these very categories
    (`own`) are the categories themselves. Categories that no image has come last.

    Raises:
        CueConflictError: there is no table for this head, or it lacks a category of the source, or
            has an index outside the head or twice.
    """
    if table is not None:
        known = _read_table(table)
    elif own and len(names) == classes:
        known = {name: (index,) for index, name in enumerate(names)}
    elif classes == IMAGENET_CLASSES:
        known = ENTRY_LEVEL
    else:
        raise CueConflictError(
            f"a head of {classes} classes: which of them make up {names[0]!r} and the other"
            " categories is not known; give --categories FILE, a JSON of name: [indices]"
        )
    where = "the 16 entry-level categories" if table is None else str(table)
    _check_table(known, names, classes, where)
    ordered = [*names, *(name for name in known if name not in names)]
    return tuple((name, tuple(known[name])) for name in ordered)


def _read_table(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the categories of a JSON file."""
    try:
        read = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as problem:
        raise CueConflictError(f"{path}: not readable as JSON ({problem})") from None
    sound = (
        isinstance(read, dict)
        and read
        and all(
            isinstance(each, list) and each and all(type(index) is int for index in each)
            for each in read.values()
        )
    )
    if not sound:
        raise CueConflictError(f"{path}: expected a JSON object of name: [indices]")
    return {str(name): tuple(indices) for name, indices in read.items()}


def _check_table(
    known: Mapping[str, Sequence[int]], names: Sequence[str], classes: int, where: str
) -> None:
    """Refuse a table that lacks a category of the images or does not fit the head."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CueConflictError(
            f"{where}: {len(unknown)} categories of the images are not among them (first:"
            f" {unknown[0]!r}); there are {', '.join(known)}"
        )
    indices = [index for each in known.values() for index in each]
    outside = next((index for index in indices if not 0 <= index < classes), None)
    if outside is not None:
        raise CueConflictError(f"{where}: index {outside} is outside the head of {classes} classes")
    if len(set(indices)) < len(indices):
        twice = next(index for index in indices if indices.count(index) > 1)
        raise CueConflictError(f"{where}: index {twice} is listed twice")


@dataclass(frozen=True, kw_only=True)
class Observer:
    """A person or a model with decisions on the same pictures."""

    name: str
    kind: Kind
    sha256: str
    """Of the tables with the decisions."""
    decisions: Mapping[str, int | None] = field(repr=False)
    """By the picture's file name without extension: number of a category, None for no response."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One line of a table."""

    observer: str
    kind: Kind
    image: str
    shape: str
    texture: str
    decision: str | None


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """All lines of one or several tables, in their order."""

    lines: tuple[Decision, ...]
    sha256: str

    @property
    def names(self) -> list[str]:
        """The observers, in the order of first appearance."""
        return list(dict.fromkeys(line.observer for line in self.lines))

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the pictures, sorted."""
        return tuple(sorted({name for line in self.lines for name in (line.shape, line.texture)}))

    def by_image(self, observer: str) -> dict[str, str | None]:
        """Return one observer's decisions by image."""
        return {line.image: line.decision for line in self.lines if line.observer == observer}

    def kind_of(self, observer: str) -> Kind:
        """Return whether an observer is a human or a model."""
        return next(line.kind for line in self.lines if line.observer == observer)


def read_observers(paths: Sequence[Path]) -> Decisions:
    """Read tables with the columns subject or model, shape, texture, decision, image.

    `image` is the file's stem; `na` is no response.

    Raises:
        CueConflictError: a column is missing, a decision is not a category, or an observer decides
            twice on an image.
    """
    lines = tuple(line for path in paths for line in _read_decisions(path))
    seen: set[tuple[str, str]] = set()
    for line in lines:
        if (line.observer, line.image) in seen:
            raise CueConflictError(
                f"{line.observer} decides twice on {line.image}; remove one line"
            )
        seen.add((line.observer, line.image))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return Decisions(lines=lines, sha256=digest)


def _read_decisions(path: Path) -> Iterator[Decision]:
    """Yield the lines of one table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise CueConflictError(f"{path}: not readable as CSV ({problem})") from None
    if not table:
        raise CueConflictError(f"{path}: has no decisions; it needs a line for each picture")
    observer = next((name for name in OBSERVER_COLUMNS if name in table[0]), None)
    missing = [name for name in COLUMNS if name not in table[0]]
    if observer is None or missing:
        lacking = missing[0] if missing else "subject or model"
        raise CueConflictError(
            f"{path}: has no column {lacking}; it needs {', '.join(COLUMNS)} and subject or model"
        )
    categories = {line[cue] for line in table for cue in ("shape", "texture")}
    for number, line in enumerate(table, start=2):
        decision = line["decision"]
        if decision not in categories and decision not in NO_RESPONSE:
            raise CueConflictError(
                f"{path}, line {number}: decision {decision!r} is none of its {len(categories)}"
                f" categories ({', '.join(sorted(categories)[:3])}, ...), nor na"
            )
        yield Decision(
            observer=line[observer],
            kind=OBSERVER_COLUMNS[observer],
            image=line["image"],
            shape=line["shape"],
            texture=line["texture"],
            decision=None if decision in NO_RESPONSE else decision,
        )


def number_decisions(decisions: Decisions, categories: Sequence[str]) -> tuple[Observer, ...]:
    """Return the observers with their decisions as numbers of these categories.

    Raises:
        CueConflictError: a decision is none of the categories.
    """
    number = {name: index for index, name in enumerate(categories)}
    for line in decisions.lines:
        if line.decision is not None and line.decision not in number:
            raise CueConflictError(
                f"{line.observer} decides {line.decision!r} on {line.image}, which is none of the"
                f" categories {', '.join(categories)}"
            )
    return tuple(
        Observer(
            name=name,
            kind=decisions.kind_of(name),
            sha256=decisions.sha256,
            decisions={
                image: None if decision is None else number[decision]
                for image, decision in decisions.by_image(name).items()
            },
        )
        for name in decisions.names
    )
