from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from illama.distributed import World
from illama_eval.run.loop import observe_source

LOGITS = frozenset({"logits"})


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_the_shards_together_see_every_image_once(
    world: int, brightness: Callable[..., Any], levels: Callable[..., Any], see: Callable[..., Any]
) -> None:
    parts = [
        see(brightness(), levels(), batch_size=4, world=World(rank, world)) for rank in range(world)
    ]
    assert sorted(pair for part in parts for pair in part) == [(i, float(i)) for i in range(20)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unexpected_error_while_reading_reaches_the_caller(
    workers: int,
    brightness: Callable[..., Any],
    levels: Callable[..., Any],
    see: Callable[..., Any],
) -> None:
    source = levels()
    object.__setattr__(source, "read", lambda position: np.full(3, 1 // (9 - position)))
    with pytest.raises(ZeroDivisionError):
        see(brightness(), source, batch_size=4, workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_two_subjects_share_one_reading_of_each_image(
    workers: int,
    brightness: Callable[..., Any],
    levels: Callable[..., Any],
    first_logits: Callable[..., Any],
) -> None:
    reads: list[int] = []
    source = levels()
    read = source.read

    def count(position: int) -> np.ndarray:
        reads.append(position)
        return read(position)

    object.__setattr__(source, "read", count)
    prepared: list[int] = []

    def prepare(image: np.ndarray) -> Tensor:
        prepared.append(int(image.max()))
        return torch.tensor(float(image.mean()))

    subjects = [brightness(name="a"), brightness(name="b")]
    for subject in subjects:
        subject.prepare = prepare
    list(observe_source(subjects, source, LOGITS, first_logits, batch_size=6, workers=workers))
    assert sorted(reads) == sorted(prepared) == list(range(20))
    assert [sum(subject.passes) for subject in subjects] == [20, 20]
