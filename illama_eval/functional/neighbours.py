"""Nearest neighbours by cosine, in bounded memory, and the votes of their classes.

Votes are those of Wu et al. 2018, as DINO reports them: each of the k nearest training images votes
for its class with exp(cosine / 0.07).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.07
_QUERIES = 256
"""Images whose neighbours are searched at a time."""
_TRAINED = 2**16
"""Training images that they are compared with at a time: few long rows are searched fastest."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest training images, the nearest first."""

    cosine: Tensor
    """float32 [query, neighbour]"""
    index: Tensor
    """Positions among the training images, int64 [query, neighbour]."""


def find_neighbours(
    queries: Tensor, training: Tensor, most: int, own: Tensor | None = None
) -> Neighbours:
    """Return the `most` training images of largest cosine.

    Args:
        queries: features [query, channel].
        training: features [training image, channel].
        most: how many; with `own`, fewer than there are training images, else at most as many.
        own: the position of each query among the training images, -1 for none, int64 [query]; an
            image is never its own neighbour.
    """
    known = functional.normalize(training.float(), dim=1)
    scratch = known.new_empty(min(_QUERIES, len(queries)) * min(_TRAINED, len(known)))
    found = [_nearest(part, known, most, scratch) for part in _parts(queries, own)]
    return Neighbours(
        cosine=torch.cat([cosine for cosine, _ in found]),
        index=torch.cat([index for _, index in found]),
    )


def vote(
    neighbours: Neighbours, labels: Tensor, classes: int, k: int, temperature: float = TEMPERATURE
) -> Tensor:
    """Return the log of each class's share of the votes of the first k, float64 [query, class].

    A class without a vote gets the log of the smallest float32, so that losses stay finite.

    Args:
        neighbours: of the queries.
        labels: classes of the training images, int64.
        classes: how many there are.
        k: how many neighbours vote.
        temperature: by which cosines are divided.
    """
    cosine = neighbours.cosine[:, :k].double()
    votes = ((cosine - cosine[:, :1]) / temperature).exp()
    shares = votes.new_zeros(len(votes), classes)
    voted = labels[neighbours.index[:, :k]]
    for rank in range(voted.shape[1]):  # one neighbour at a time: the order of the sum is fixed
        shares.scatter_add_(1, voted[:, rank : rank + 1], votes[:, rank : rank + 1])
    shares /= shares.sum(1, keepdim=True)
    return shares.clamp_min(torch.finfo(torch.float32).tiny).log()


def _parts(queries: Tensor, own: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield normalised queries in chunks, with their positions among the training images."""
    for start in range(0, len(queries), _QUERIES):
        rows = slice(start, start + _QUERIES)
        part = functional.normalize(queries[rows].float(), dim=1)
        yield part, None if own is None else own[rows]


def _nearest(
    part: tuple[Tensor, Tensor | None], known: Tensor, most: int, scratch: Tensor
) -> tuple[Tensor, Tensor]:
    """Return cosines and positions of the nearest of all training images, block by block.

    Cosines are written into `scratch`, which is paged in once.
    """
    queries, own = part
    best = queries.new_full((len(queries), 0), 0.0)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(known), _TRAINED):
        block = known[start : start + _TRAINED]
        cosine = scratch[: len(queries) * len(block)].view(len(queries), len(block))
        torch.mm(queries, block.T, out=cosine)
        if own is not None:
            position = own - start
            inside = (position >= 0) & (position < len(block))
            cosine[inside, position[inside]] = -torch.inf
        near, where = cosine.topk(min(most, len(block)), dim=1)
        best, order = torch.cat((best, near), dim=1).topk(
            min(most, best.shape[1] + near.shape[1]), dim=1
        )
        index = torch.cat((index, where + start), dim=1).gather(1, order)
    return best, index
