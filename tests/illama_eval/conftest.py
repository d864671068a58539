"""Batches and pieces as the loop makes them, from plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest
import torch
from torch import Tensor

from illama.observation import Batch, OutputSeen
from illama_eval.study import Study, Sums, accumulate, keys_of, weights_of


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Return a function that makes the batch of some images of a source."""

    def make(labels: Tensor, chosen: Sequence[int] | None = None) -> Batch:
        ids = [f"test/{number:05d}" for number in range(len(labels))]
        keys = keys_of(ids)
        index = torch.arange(len(labels)) if chosen is None else torch.tensor(chosen)
        return Batch(
            ids=tuple(ids[i] for i in index.tolist()),
            labels=labels[index],
            positions=index,
            order=keys.argsort().argsort()[index],
            keys=keys[index],
            weights=weights_of(keys[index]),
            count=len(labels),
        )

    return make


@pytest.fixture(scope="session")
def total_of(make_batch: Callable[..., Batch]) -> Callable[..., Sums]:
    """Return a function that measures logits [image, class] with a study, group by group."""

    def measure(
        study: Study, logits: Tensor, labels: Tensor, groups: Iterable[Sequence[int]] | None = None
    ) -> Sums:
        total: Sums = {}
        for group in groups or [range(len(labels))]:
            batch = make_batch(labels, list(group))
            piece = OutputSeen(logits=logits[batch.positions], batch=batch)
            accumulate(total, study.measure(piece))
        return total

    return measure
