"""Work over cores: results in order, whatever the threads, and numpy's own threads left alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info

from illama_eval.functional.cores import in_a_part, in_threads, one_core_each


@pytest.fixture(params=[1, 2], autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


def blas_threads() -> list[int]:
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def test_numpy_has_one_thread_inside_and_its_own_again_afterwards() -> None:
    before, inside = blas_threads(), []
    in_threads(lambda _: inside.extend(blas_threads()), [1, 2, 3])
    assert set(inside) <= {1}
    with one_core_each, one_core_each:
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before


def test_what_fails_in_a_thread_fails_and_leaves_the_threads_as_they_were() -> None:
    def fail(_: int) -> None:
        raise ValueError("broken")

    before = blas_threads()
    with pytest.raises(ValueError, match="broken"):
        in_threads(fail, [1, 2])
    assert blas_threads() == before


def test_every_part_is_done_and_few_parts_are_shared_by_all_cores() -> None:
    seen: list[int] = []
    in_threads(seen.append, range(12))
    assert sorted(seen) == list(range(12))
    cores = torch.get_num_threads()
    assert in_a_part(5, 3) == 3
    assert in_a_part(4, 100) == 4 // cores
    assert in_a_part(0, 3) == in_a_part(7, 0) == 1


def test_work_within_the_threads_does_not_wait_for_them() -> None:
    seen: list[int] = []
    in_threads(lambda _: in_threads(seen.append, [1, 2, 3]), range(4))
    assert sorted(seen) == [1] * 4 + [2] * 4 + [3] * 4
