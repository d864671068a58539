from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from illama.config import Config
from illama.model import Model
from illama.observation import LayerSeen, OutputSeen
from illama.transforms import evaluation_transform
from illama_eval.run.loop import (
    OutOfMemoryError,
    SubjectPiece,
    automatic_batch_size,
    is_out_of_memory,
    observe_source,
)
from illama_eval.subjects.checkpoint import ModelSubject

LOGITS = frozenset({"logits"})


@pytest.mark.parametrize("batch_size", [1, 7, 20, 64])
@pytest.mark.parametrize("workers", [0, 1])
def test_every_image_is_seen_once_in_order(
    batch_size: int,
    workers: int,
    brightness: Callable[..., Any],
    levels: Callable[..., Any],
    see: Callable[..., Any],
) -> None:
    seen = see(brightness(), levels(), batch_size=batch_size, workers=workers)
    assert seen == [(i, float(i)) for i in range(20)]


def test_running_out_of_memory_halves_the_batch_and_loses_no_image(
    brightness: Callable[..., Any], levels: Callable[..., Any], see: Callable[..., Any]
) -> None:
    subject = brightness(limit=3)
    assert see(subject, levels(), batch_size=16) == [(i, float(i)) for i in range(20)]
    assert subject.passes[:3] == [16, 8, 4]
    assert subject.passes[3:] == [2] * 10


def test_memory_that_ends_inside_the_measurement_is_retried_without_double_counting(
    brightness: Callable[..., Any], levels: Callable[..., Any]
) -> None:
    def greedy(pieces: Iterator[SubjectPiece]) -> int:
        count = sum(piece.batch.size for _, piece in pieces)
        if count > 5:
            raise torch.OutOfMemoryError("in the study")
        return count

    steps = observe_source((brightness(),), levels(), LOGITS, greedy, batch_size=16)
    assert sum(sum(step.results) for step in steps) == 20


def test_an_error_that_is_not_about_memory_is_tried_once(
    brightness: Callable[..., Any], levels: Callable[..., Any], see: Callable[..., Any]
) -> None:
    subject = brightness(limit=3, problem=RuntimeError)
    with pytest.raises(RuntimeError, match="too many"):
        see(subject, levels(), batch_size=16)
    assert subject.passes == [16]


def test_a_single_image_that_does_not_fit_is_an_error_in_words(
    brightness: Callable[..., Any], levels: Callable[..., Any], see: Callable[..., Any]
) -> None:
    with pytest.raises(OutOfMemoryError, match="single image"):
        see(brightness(limit=0), levels(), batch_size=4)


def test_only_allocation_failures_count_as_out_of_memory() -> None:
    refused = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    assert is_out_of_memory(RuntimeError(refused))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_unreadable_images_are_named_and_left_out(
    brightness: Callable[..., Any], levels: Callable[..., Any], first_logits: Callable[..., Any]
) -> None:
    steps = list(
        observe_source(
            (brightness(),), levels(broken=[3, 8, 9]), LOGITS, first_logits, batch_size=2
        )
    )
    assert [item for step in steps for item in step.unreadable] == [
        (3, "damaged on purpose"),
        (8, "damaged on purpose"),
        (9, "damaged on purpose"),
    ]
    assert sum(len(step.positions) for step in steps) == 17


def test_going_on_from_a_batch_sees_exactly_the_rest(
    brightness: Callable[..., Any], levels: Callable[..., Any], see: Callable[..., Any]
) -> None:
    assert see(brightness(), levels(), batch_size=6, first=2) == [
        (i, float(i)) for i in range(12, 20)
    ]


def test_a_class_subset_keeps_its_logits_and_renumbers_labels(
    brightness: Callable[..., Any], levels: Callable[..., Any]
) -> None:
    source = levels(labels=False)
    object.__setattr__(source, "labels", np.ones(20, dtype=np.int64))
    object.__setattr__(source, "class_subset", (1,))

    def check(pieces: Iterator[SubjectPiece]) -> bool:
        (_, piece), *_ = pieces
        return piece.logits.shape[1] == 1 and bool((piece.batch.labels == 0).all())

    steps = observe_source((brightness(),), source, LOGITS, check, batch_size=20)
    assert [step.results for step in steps] == [(True,)]


def test_two_subjects_go_in_lockstep_and_the_second_carries_its_reference(
    levels: Callable[..., Any],
) -> None:
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

    list(observe_source(subjects, levels(3), wanted, note, batch_size=3))
    assert seen == [
        (0, "LayerSeen", False),
        (1, "LayerSeen", True),
        (0, "LayerSeen", False),
        (1, "LayerSeen", True),
        (0, "OutputSeen", False),
        (1, "OutputSeen", True),
    ]
    assert LayerSeen is not OutputSeen


def test_an_output_meets_the_first_output_whatever_the_number_of_blocks(
    brightness: Callable[..., Any], levels: Callable[..., Any]
) -> None:
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
    for subjects, blocks in (((flat, deep), [1, 3, 0]), ((brightness(), deep), [0, 3, 0])):
        outputs, layers = [], [0, 0, 0]

        def note(pieces: Iterator[SubjectPiece], outputs=outputs, layers=layers) -> None:
            for number, piece in pieces:
                if isinstance(piece, OutputSeen):
                    outputs.append((number, piece.reference is not None))
                else:
                    layers[number] += 1

        list(observe_source(subjects, levels(3), wanted, note, batch_size=3))
        assert outputs == [(0, False), (1, True)]
        assert layers == blocks


def test_the_automatic_batch_is_a_power_of_two_within_the_budget(
    brightness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    light, heavy = brightness(), brightness()
    light.map_bytes = lambda wanted: 2**10  # type: ignore[method-assign]
    assert automatic_batch_size([light], LOGITS) == 128
    heavy.map_bytes = lambda wanted: 2**24  # type: ignore[method-assign]
    for cores in (1, 4):
        monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
        assert automatic_batch_size([heavy], LOGITS) == 4 * cores
        assert automatic_batch_size([heavy, heavy], LOGITS) == 2 * cores
    heavy.map_bytes = lambda wanted: 2**40  # type: ignore[method-assign]
    assert automatic_batch_size([heavy], LOGITS) == 1


@pytest.mark.parametrize(("free", "images"), [(2**28, 4), (2**30, 8), (2**33, 64), (2**40, 256)])
def test_on_a_gpu_half_of_the_free_memory_is_for_the_batch(
    brightness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, free: int, images: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2**41))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2**29)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2**28)
    subject = brightness(device=torch.device("cuda"))
    monkeypatch.setattr(subject, "map_bytes", lambda _: 2**26)
    assert automatic_batch_size([subject], LOGITS) == images
