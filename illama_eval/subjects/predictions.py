"""Subjects whose logits exist already: saved predictions, probes, and observers' decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.observation import OutputSeen, Piece
from illama.sources.cue_conflict import group_cues
from illama.sources.head import for_head
from illama.sources.npz import ids_of
from illama.sources.source import Source, make_source, read_array
from illama.transforms import ImageError
from illama_eval.cue_conflict import Decisions
from illama_eval.results import load_arrays
from illama_eval.subjects.subject import Subject, SubjectError


@dataclass(frozen=True, kw_only=True)
class SavedPredictions:
    """Logits that were computed before; the source yields them instead of images."""

    name: str
    classes: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    column: int | None = None
    """This subject's row where the source yields logits of several, [subject, class]; None: it
    yields this subject's alone, [class]."""
    shows: ClassVar[frozenset[str]] = frozenset({"logits"})

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def prepare(self) -> Callable[[Any], Tensor]:
        """Turn what the source yields into this subject's logits."""
        return torch.from_numpy if self.column is None else partial(_own_logits, self.column)

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        """Yield the logits, the only thing that is known of the model.

        Raises:
            SubjectError: attention, tokens or features are wanted.
        """
        missing = sorted(set(wanted) - self.shows)
        if missing:
            raise SubjectError(
                f"{self.name}: saved predictions hold no {missing[0]}; give a checkpoint instead"
            )
        yield OutputSeen(logits=inputs)

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return the bytes of one row of logits, in float64."""
        del wanted
        return 16 * self.classes

    def describe(self) -> dict[str, Any]:
        """Return name and provenance."""
        return {"name": self.name, **self.provenance, "classes": self.classes}


def _own_logits(column: int, logits: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(logits[column])


def open_predictions(path: Path) -> tuple[SavedPredictions, Source]:
    """Return saved predictions (`.npz`) as a subject and the source of their rows.

    Keys: `logits` or `probabilities` [image, class], `labels` [image], optional `ids` [image]. Ids
    (or else the numbers of the images) and labels make the source's fingerprint, so that the
    predictions of two models on the same images compare.

    Raises:
        SubjectError: a key is missing, shapes differ, or values are not probabilities.
        SourceError: the ids are not one for each image.
    """
    arrays = _read_npz(path)
    given = arrays["logits"] if "logits" in arrays else arrays["probabilities"]
    labels = arrays["labels"].astype(np.int64)
    if given.ndim != 2 or labels.shape != (len(given),) or not given.size:  # noqa: PLR2004 - [image, class]
        raise SubjectError(f"{path}: expected scores [image, class] and labels [image]")
    scores = given if "logits" in arrays else _to_logits(path, given)
    names = ids_of(path, arrays, len(scores), digits=6)
    rows: Any = _readable(scores)  # read where other sources hold uint8 images
    source = make_source(
        name=path.stem,
        split="all",
        names=names,
        labels=labels,
        contents=names,
        read=partial(read_array, rows),
        in_memory=True,
    )
    subject = SavedPredictions(
        name=path.stem,
        classes=rows.shape[1],
        provenance={
            "file": path.name,
            "layout": "npz",
            "scores_sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
        },
    )
    return subject, for_head(source, rows.shape[1])


def _read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays, with `labels` and one kind of scores among them."""
    try:
        arrays = load_arrays(path)
    except Exception as problem:  # a damaged file raises almost anything
        raise SubjectError(f"{path}: not a readable .npz ({problem})") from problem
    if "labels" not in arrays or not {"logits", "probabilities"} & set(arrays):
        raise SubjectError(
            f"{path}: needs `labels` and `logits` or `probabilities`; "
            f"it has {', '.join(sorted(arrays)) or 'nothing'}"
        )
    for name, kinds in (("labels", "iu"), ("logits", "f"), ("probabilities", "f")):
        if name in arrays and arrays[name].dtype.kind not in kinds:
            wanted = "whole numbers" if name == "labels" else "floating-point numbers"
            raise SubjectError(f"{path}: `{name}` must be {wanted}, not {arrays[name].dtype}")
    return arrays


def _to_logits(path: Path, probabilities: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float64 logs; a zero becomes the smallest normal float32, whose log is finite."""
    exact = probabilities.astype(np.float64)
    if not ((exact >= 0) & (exact <= 1)).all() or np.abs(exact.sum(-1) - 1).max() > 1e-3:  # noqa: PLR2004 - what fp16 keeps
        raise SubjectError(f"{path}: `probabilities` must be in 0..1 and sum to 1 in each row")
    logits: np.ndarray[Any, Any] = np.log(np.maximum(exact, np.finfo(np.float32).tiny))
    return logits


def _readable(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return scores as torch takes them: row by row, this machine's bytes, at most float64."""
    native = scores.dtype.newbyteorder("=")
    return np.ascontiguousarray(scores, np.float64 if native.itemsize > 8 else native)  # noqa: PLR2004


def with_probe(
    base: Subject, probe: str, parameters: Mapping[str, Any], number: int, classes: int
) -> SavedPredictions:
    """Return a model with a probe on its frozen features as a subject.

    The probe was applied to all images before the pass, and the source yields its logits, so the
    features are computed once. `number` is the subject's row of them.
    """
    name = f"{base.name}+{probe}"
    about = {**base.describe(), "name": name, "base": base.name, "probe": dict(parameters)}
    about.pop("class_names", None)  # those of the head that the probe replaces
    return SavedPredictions(name=name, classes=classes, provenance=about, column=number)


def with_logits(
    source: Source, logits: NDArray[np.float64], unreadable: Sequence[tuple[int, str]]
) -> Source:
    """Return the source with logits [image, subject, class] instead of its images."""
    read: Any = partial(_read_logits, logits, dict(unreadable))
    return replace(source, read=read, in_memory=True)


def _read_logits(
    logits: NDArray[np.float64], unreadable: Mapping[int, str], position: int
) -> NDArray[np.float64]:
    if position in unreadable:
        raise ImageError(unreadable[position])
    own: NDArray[np.float64] = logits[position]
    return own


def open_observers(decisions: Decisions) -> tuple[tuple[SavedPredictions, ...], Source]:
    """Return each observer as a subject, and the source of the pictures that all decided on.

    A decision becomes a logit of 0 for its category, -inf for the others; no response is all -inf.

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
            raise SubjectError(
                f"{name} and {names[0]} did not decide on the same pictures; give tables of one set"
            )
    rows: Any = np.full((len(images), len(names), len(categories)), -np.inf, np.float32)
    for row, image in zip(rows, images, strict=True):
        for logits, own in zip(row, answers, strict=True):
            answer = own[image]
            if answer is not None:
                logits[number[answer]] = 0.0
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
        SavedPredictions(
            name=name,
            classes=len(categories),
            column=column,
            provenance={"layout": "csv", "file_sha256": decisions.sha256},
        )
        for column, name in enumerate(names)
    )
    return subjects, group_cues(replace(source, cues=cues, categories=categories))
