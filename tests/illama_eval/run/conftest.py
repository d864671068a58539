"""A small subject, its run on noise, and the run's directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from illama.observation import OutputSeen, Piece
from illama.sources import open_source
from illama.sources.head import for_head
from illama.sources.source import Source, make_source
from illama.transforms import ImageError
from illama_eval.results import Run
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.run.loop import SubjectPiece, observe_source
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint


@pytest.fixture(scope="session")
def subject(golden_checkpoint: Path) -> ModelSubject:
    return open_checkpoint(golden_checkpoint, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def measure(subject: ModelSubject, small_images: Path) -> Callable[..., Run]:
    """Return a function that measures the noise with all studies that fit it, into a directory."""

    def run(out: Path, measured: ModelSubject = subject, **options: object) -> Run:
        source = for_head(open_source(str(small_images)), 10)
        studies = [
            study() for study in STUDIES.values() if study.requires <= {"labels", "single_labels"}
        ]
        return evaluate(measured, source, studies, out, Options(batch_size=8, **options))

    return run


@pytest.fixture(scope="session")
def whole(measure: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    measure(out)
    return out


@dataclass
class Brightness:
    """A subject whose logits are the image's mean, and which fails above `limit` images."""

    limit: int = 10**6
    problem: type[RuntimeError] = torch.OutOfMemoryError
    passes: list[int] = field(default_factory=list)
    name: str = "brightness"
    classes: int = 2
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    shows: frozenset[str] = frozenset({"logits"})

    @staticmethod
    def prepare(image: np.ndarray) -> Tensor:
        return torch.tensor(float(image.mean()))

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        self.passes.append(len(inputs))
        if len(inputs) > self.limit:
            raise self.problem("too many")
        yield OutputSeen(logits=torch.stack((inputs, -inputs), dim=1))

    def map_bytes(self, wanted: frozenset[str]) -> int:
        return 2**20

    def describe(self) -> dict[str, object]:
        return {"name": self.name}


def _read(images: np.ndarray, broken: frozenset[int], position: int) -> np.ndarray:
    if position in broken:
        raise ImageError("damaged on purpose")
    return images[position]


@pytest.fixture(scope="session")
def brightness() -> type[Brightness]:
    """Return the class of subjects that see how bright an image is."""
    return Brightness


@pytest.fixture(scope="session")
def levels() -> Callable[..., Source]:
    """Return a function that makes a source whose image at position i is filled with i."""

    def make(count: int = 20, broken: Iterable[int] = (), labels: bool = True) -> Source:
        images = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
        return make_source(
            name="levels",
            split="test",
            names=[f"level/{i:02d}" for i in range(count)],
            labels=np.arange(count) % 2 if labels else None,
            contents=[1] * count,
            read=partial(_read, images, frozenset(broken)),
            in_memory=True,
        )

    return make


@pytest.fixture(scope="session")
def first_logits() -> Callable[[Iterator[SubjectPiece]], list[tuple[int, float]]]:
    """Return a function that notes position and first logit of every image."""

    def read(pieces: Iterator[SubjectPiece]) -> list[tuple[int, float]]:
        return [
            (int(position), float(value))
            for _, piece in pieces
            for position, value in zip(piece.batch.positions, piece.logits[:, 0], strict=True)
        ]

    return read


@pytest.fixture(scope="session")
def see(first_logits: Callable[..., Any]) -> Callable[..., list[tuple[int, float]]]:
    """Return a function that runs a subject over a source and gives what it saw, in order."""

    def run(subject: Brightness, source: Source, **options: object) -> list[tuple[int, float]]:
        steps = observe_source((subject,), source, frozenset({"logits"}), first_logits, **options)
        return [pair for step in steps for result in step.results for pair in result]

    return run
