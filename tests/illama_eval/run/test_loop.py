from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from illama.config import Config
from illama.distributed import World
from illama.model import Model
from illama.observation import LayerSeen, OutputSeen, Piece
from illama.sources.source import Source, make_source
from illama.transforms import ImageError, evaluation_transform
from illama_eval.run.loop import (
    OutOfMemoryError,
    SubjectPiece,
    automatic_batch_size,
    is_out_of_memory,
    observe_source,
)
from illama_eval.subjects.checkpoint import ModelSubject

LOGITS = frozenset({"logits"})


@dataclass
class Brightness:
    """A subject whose logits are the image's mean, and which fails above `limit` images."""

    limit: int = 10**6
    problem: type[RuntimeError] = torch.OutOfMemoryError
    passes: list[int] = field(default_factory=list)
    name: str = "brightness"
    classes: int = 2
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    shows: frozenset[str] = LOGITS

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


def _source(count: int = 20, broken: Iterable[int] = (), labels: bool = True) -> Source:
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


def _first_logits(pieces: Iterator[SubjectPiece]) -> list[tuple[int, float]]:
    return [
        (int(position), float(value))
        for _, piece in pieces
        for position, value in zip(piece.batch.positions, piece.logits[:, 0], strict=True)
    ]


def _seen(subject: Brightness, source: Source, **options: object) -> list[tuple[int, float]]:
    steps = observe_source((subject,), source, LOGITS, _first_logits, **options)
    return [pair for step in steps for result in step.results for pair in result]


@pytest.mark.parametrize("batch_size", [1, 7, 20, 64])
@pytest.mark.parametrize("workers", [0, 1])
def test_every_image_is_seen_once_in_order(batch_size: int, workers: int) -> None:
    seen = _seen(Brightness(), _source(), batch_size=batch_size, workers=workers)
    assert seen == [(i, float(i)) for i in range(20)]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_the_shards_together_see_every_image_once(world: int) -> None:
    parts = [
        _seen(Brightness(), _source(), batch_size=4, world=World(rank, world))
        for rank in range(world)
    ]
    assert sorted(pair for part in parts for pair in part) == [(i, float(i)) for i in range(20)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_running_out_of_memory_halves_the_batch_and_loses_no_image() -> None:
    subject = Brightness(limit=3)
    assert _seen(subject, _source(), batch_size=16) == [(i, float(i)) for i in range(20)]
    assert subject.passes[:3] == [16, 8, 4]
    assert subject.passes[3:] == [2] * 10


def test_memory_that_ends_inside_the_measurement_is_retried_without_double_counting() -> None:
    def greedy(pieces: Iterator[SubjectPiece]) -> int:
        count = sum(piece.batch.size for _, piece in pieces)
        if count > 5:
            raise torch.OutOfMemoryError("in the study")
        return count

    steps = observe_source((Brightness(),), _source(), LOGITS, greedy, batch_size=16)
    assert sum(sum(step.results) for step in steps) == 20


def test_an_error_that_is_not_about_memory_is_tried_once() -> None:
    subject = Brightness(limit=3, problem=RuntimeError)
    with pytest.raises(RuntimeError, match="too many"):
        _seen(subject, _source(), batch_size=16)
    assert subject.passes == [16]


def test_a_single_image_that_does_not_fit_is_an_error_in_words() -> None:
    with pytest.raises(OutOfMemoryError, match="single image"):
        _seen(Brightness(limit=0), _source(), batch_size=4)


def test_only_allocation_failures_count_as_out_of_memory() -> None:
    refused = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    assert is_out_of_memory(RuntimeError(refused))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_unreadable_images_are_named_and_left_out() -> None:
    steps = list(
        observe_source(
            (Brightness(),), _source(broken=[3, 8, 9]), LOGITS, _first_logits, batch_size=2
        )
    )
    assert [item for step in steps for item in step.unreadable] == [
        (3, "damaged on purpose"),
        (8, "damaged on purpose"),
        (9, "damaged on purpose"),
    ]
    assert sum(len(step.positions) for step in steps) == 17


def test_going_on_from_a_batch_sees_exactly_the_rest() -> None:
    assert _seen(Brightness(), _source(), batch_size=6, first=2) == [
        (i, float(i)) for i in range(12, 20)
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unexpected_error_while_reading_reaches_the_caller(workers: int) -> None:
    source = _source()
    object.__setattr__(source, "read", lambda position: np.full(3, 1 // (9 - position)))
    with pytest.raises(ZeroDivisionError):
        _seen(Brightness(), source, batch_size=4, workers=workers)


def test_a_class_subset_keeps_its_logits_and_renumbers_labels() -> None:
    source = _source(labels=False)
    object.__setattr__(source, "labels", np.ones(20, dtype=np.int64))
    object.__setattr__(source, "class_subset", (1,))

    def check(pieces: Iterator[SubjectPiece]) -> bool:
        (_, piece), *_ = pieces
        return piece.logits.shape[1] == 1 and bool((piece.batch.labels == 0).all())

    steps = observe_source((Brightness(),), source, LOGITS, check, batch_size=20)
    assert [step.results for step in steps] == [(True,)]


def test_two_subjects_go_in_lockstep_and_the_second_carries_its_reference() -> None:
    config = Config(image_size=16, patch_size=8, width=24, depth=2, heads=2, classes=3)
    subjects = [
        ModelSubject(name=name, model=Model(config).eval(), transform=evaluation_transform(16))
        for name in "ab"
    ]
    wanted = frozenset({"used", "logits"})
    seen: list[tuple[int, str, bool]] = []

    def note(pieces: Iterator[SubjectPiece]) -> None:
        for number, piece in pieces:
            seen.append((number, type(piece).__name__, piece.reference is not None))

    list(observe_source(subjects, _source(3), wanted, note, batch_size=3))
    assert seen == [
        (0, "LayerSeen", False),
        (1, "LayerSeen", True),
        (0, "LayerSeen", False),
        (1, "LayerSeen", True),
        (0, "OutputSeen", False),
        (1, "OutputSeen", True),
    ]
    assert LayerSeen is not OutputSeen


def test_an_output_meets_the_first_output_whatever_the_number_of_blocks() -> None:
    config = Config(image_size=16, patch_size=8, width=24, depth=2, heads=2, classes=2)
    deep, flat = (
        ModelSubject(
            name=str(depth),
            model=Model(replace(config, depth=depth)).eval(),
            transform=evaluation_transform(16),
        )
        for depth in (3, 1)
    )
    wanted = frozenset({"tokens", "logits"})
    for subjects, blocks in (((flat, deep), [1, 3, 0]), ((Brightness(), deep), [0, 3, 0])):
        outputs, layers = [], [0, 0, 0]

        def note(pieces: Iterator[SubjectPiece], outputs=outputs, layers=layers) -> None:
            for number, piece in pieces:
                if isinstance(piece, OutputSeen):
                    outputs.append((number, piece.reference is not None))
                else:
                    layers[number] += 1

        list(observe_source(subjects, _source(3), wanted, note, batch_size=3))
        assert outputs == [(0, False), (1, True)]
        assert layers == blocks


@pytest.mark.parametrize("workers", [0, 2])
def test_two_subjects_share_one_reading_of_each_image(workers: int) -> None:
    reads: list[int] = []
    source = _source()
    read = source.read

    def count(position: int) -> np.ndarray:
        reads.append(position)
        return read(position)

    object.__setattr__(source, "read", count)
    prepared: list[int] = []

    def prepare(image: np.ndarray) -> Tensor:
        prepared.append(int(image.max()))
        return torch.tensor(float(image.mean()))

    subjects = [Brightness(name="a"), Brightness(name="b")]
    for subject in subjects:
        subject.prepare = prepare
    list(observe_source(subjects, source, LOGITS, _first_logits, batch_size=6, workers=workers))
    assert sorted(reads) == sorted(prepared) == list(range(20))
    assert [sum(subject.passes) for subject in subjects] == [20, 20]


def test_the_automatic_batch_is_a_power_of_two_within_the_budget() -> None:
    assert automatic_batch_size([Brightness()], LOGITS) == 128
    heavy = Brightness()
    heavy.map_bytes = lambda wanted: 2**26  # type: ignore[method-assign]
    assert automatic_batch_size([heavy], LOGITS) == 4
    heavy.map_bytes = lambda wanted: 2**40  # type: ignore[method-assign]
    assert automatic_batch_size([heavy], LOGITS) == 1
