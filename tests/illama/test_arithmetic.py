"""Exact products on a GPU, wherever a model is loaded, trained or measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from illama.arithmetic import use_exact_products
from illama.distributed import join

FLAGS = {
    (torch.backends.cuda.matmul, "allow_tf32"): False,
    (torch.backends.cudnn, "allow_tf32"): False,
    (torch.backends.cudnn, "benchmark"): False,
    (torch.backends.cudnn, "deterministic"): True,
}


@pytest.fixture(autouse=True)
def _other_flags() -> Iterator[None]:
    before = {place: getattr(*place) for place in FLAGS}
    for place, wanted in FLAGS.items():
        setattr(*place, not wanted)
    yield
    for place, value in before.items():
        setattr(*place, value)


def flags() -> dict[tuple[object, str], bool]:
    return {place: getattr(*place) for place in FLAGS}


def test_a_gpu_multiplies_exactly_and_in_the_same_way_every_time() -> None:
    use_exact_products("cuda")
    assert flags() == FLAGS


def test_a_cpu_changes_nothing_for_others() -> None:
    use_exact_products("cpu")
    assert flags() == {place: not wanted for place, wanted in FLAGS.items()}


def test_whoever_joins_a_measurement_or_a_training_has_them() -> None:
    with join(torch.device("cuda", 0)):
        assert flags() == FLAGS
