"""Decisions that others made on the same pictures: people and models, from a table."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.sources.source import Source, make_source, read_array
from illama_eval.cue_conflict import Observer
from illama_eval.subjects import SavedPredictions, SubjectError

SILENT = ("na", "")
"""What stands for no response."""
COLUMNS = ("shape", "texture", "decision", "image")
Kind = Literal["human", "model"]
_WHO: Mapping[str, Kind] = {"subject": "human", "model": "model"}
"""Column that names the decider -> what deciders of such a table are."""


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
        """Who decided, in the order of first appearance."""
        return list(dict.fromkeys(line.observer for line in self.lines))

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the pictures, sorted."""
        return tuple(sorted({name for line in self.lines for name in (line.shape, line.texture)}))

    def by_image(self, observer: str) -> dict[str, str | None]:
        """Return one observer's decisions by image."""
        return {line.image: line.decision for line in self.lines if line.observer == observer}

    def kind_of(self, observer: str) -> Kind:
        """Return what an observer is."""
        return next(line.kind for line in self.lines if line.observer == observer)


def read_observers(paths: Sequence[Path]) -> Decisions:
    """Read tables with the columns subject or model, shape, texture, decision, image.

    `image` is the file's stem; `na` is no response.

    Raises:
        SubjectError: a column is missing, a decision is no category, or an observer decides twice
            on an image.
    """
    lines = tuple(line for path in paths for line in _read(path))
    seen: set[tuple[str, str]] = set()
    for line in lines:
        if (line.observer, line.image) in seen:
            raise SubjectError(f"{line.observer} decides twice on {line.image}; remove one line")
        seen.add((line.observer, line.image))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return Decisions(lines=lines, sha256=digest)


def _read(path: Path) -> Iterator[Decision]:
    """Yield the lines of one table."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise SubjectError(f"{path}: no readable CSV ({problem})") from None
    if not table:
        raise SubjectError(f"{path}: holds no line of decisions")
    who = next((name for name in _WHO if name in table[0]), None)
    missing = [name for name in COLUMNS if name not in table[0]]
    if who is None or missing:
        lacking = missing[0] if missing else "subject or model"
        raise SubjectError(
            f"{path}: has no column {lacking}; it needs {', '.join(COLUMNS)} and who"
        )
    categories = {line[cue] for line in table for cue in ("shape", "texture")}
    for number, line in enumerate(table, start=2):
        said = line["decision"]
        if said not in categories and said not in SILENT:
            raise SubjectError(
                f"{path}, line {number}: decision {said!r} is none of its {len(categories)}"
                f" categories ({', '.join(sorted(categories)[:3])}, ...), nor na"
            )
        yield Decision(
            observer=line[who],
            kind=_WHO[who],
            image=line["image"],
            shape=line["shape"],
            texture=line["texture"],
            decision=None if said in SILENT else said,
        )


def number_decisions(decisions: Decisions, categories: Sequence[str]) -> tuple[Observer, ...]:
    """Return the observers with their decisions as numbers of these categories.

    Raises:
        SubjectError: a decision is none of the categories.
    """
    number = {name: index for index, name in enumerate(categories)}
    for line in decisions.lines:
        if line.decision is not None and line.decision not in number:
            raise SubjectError(
                f"{line.observer} decides {line.decision!r} on {line.image}, which is none of the"
                f" categories {', '.join(categories)}"
            )
    return tuple(
        Observer(
            name=name,
            kind=decisions.kind_of(name),
            sha256=decisions.sha256,
            decisions={
                image: None if said is None else number[said]
                for image, said in decisions.by_image(name).items()
            },
        )
        for name in decisions.names
    )


@dataclass(frozen=True, kw_only=True)
class SavedDecisions(SavedPredictions):
    """One observer's decisions; the source reads all observers' decisions on a picture."""

    column: int
    """Whose decision is this subject's."""

    @property
    def prepare(self) -> Callable[[Any], Tensor]:
        """Turn a picture's decisions into logits that leave no doubt; all -inf: no response."""
        return partial(_to_logits, self.column, self.classes)


def _to_logits(column: int, categories: int, said: NDArray[np.int64]) -> Tensor:
    logits = torch.full((categories,), -torch.inf)
    if said[column] >= 0:
        logits[said[column]] = 0.0
    return logits


def open_observers(decisions: Decisions) -> tuple[tuple[SavedDecisions, ...], Source]:
    """Return each observer as a subject, and the source of the pictures that all decided on.

    Raises:
        SubjectError: the observers did not see the same pictures.
    """
    names, categories = decisions.names, decisions.categories
    first = [line for line in decisions.lines if line.observer == names[0]]
    number = {name: index for index, name in enumerate(categories)}
    images = [line.image for line in first]
    answers = [decisions.by_image(name) for name in names]
    for name, own in zip(names, answers, strict=True):
        if own.keys() != set(images):
            raise SubjectError(f"{name} and {names[0]} did not decide on the same pictures")
    said = [[number.get(own[image] or "", -1) for own in answers] for image in images]
    rows: Any = np.array(said, np.int64)  # read where other sources hold uint8 images
    cues = np.array([[number[line.shape], number[line.texture]] for line in first], np.int64)
    source = make_source(
        name="observers",
        split="all",
        names=[f"{line.shape}/{line.image}" for line in first],
        labels=cues[:, 0],
        classes=categories,
        contents=[line.image for line in first],
        read=partial(read_array, rows),
        in_memory=True,
    )
    subjects = tuple(
        SavedDecisions(
            name=name,
            classes=len(categories),
            column=column,
            provenance={"layout": "csv", "file_sha256": decisions.sha256},
        )
        for column, name in enumerate(names)
    )
    return subjects, replace(source, cues=cues, categories=categories)
