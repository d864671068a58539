from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from illama_eval.subjects.interleave import interleave


def test_it_computes_no_further_than_is_consumed() -> None:
    done = []

    def compute(emit: Callable[[int], None]) -> None:
        for number in range(3):
            done.append(number)
            emit(number)

    stream = interleave(compute)
    assert not done
    for expected, number in enumerate(stream):
        assert number == expected
        assert done == list(range(expected + 1))


def test_what_it_raises_is_raised_in_the_consumer() -> None:
    def compute(emit: Callable[[int], None]) -> None:
        emit(1)
        raise torch.OutOfMemoryError("full")

    stream = interleave(compute)
    assert next(stream) == 1
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        next(stream)


def test_a_stream_that_is_closed_unwinds_its_computation() -> None:
    unwound = []

    def compute(emit: Callable[[int], None]) -> None:
        try:
            emit(1)
            emit(2)
        finally:
            unwound.append(threading.get_ident())

    stream = interleave(compute)
    next(stream)
    before = threading.active_count()
    stream.close()
    assert len(unwound) == 1
    assert unwound != [threading.get_ident()]
    assert threading.active_count() == before - 1


def test_nothing_is_recorded_for_gradients() -> None:
    weight = torch.ones(2, requires_grad=True)
    (seen,) = interleave(lambda emit: emit(weight * 2))
    assert not seen.requires_grad
