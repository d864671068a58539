"""Singular values of attention maps, and the numbers that say how many of them matter."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

BLOCK_BYTES = 2**22
"""Maps are decomposed in blocks of about this size in float64, one block per core at a time."""


def singular_values(maps: Tensor) -> Tensor:
    """Return the singular values of maps [map, row, column], float64, largest first, by an SVD.

    Those of a map that holds a value that is not finite are NaN.
    """
    return over_cores(lambda block: _guarded(torch.linalg.svdvals, block), maps)


def index_of_share(maps: Tensor, threshold: float) -> Tensor:
    """Return `first_index` of the singular values of every map [map, row, column].

    The values come from the eigenvalues of A A^T, about twice as fast as an SVD. That squares the
    condition number, so a map whose curve passes the threshold more closely than this can have
    shifted it is decomposed again by an SVD: the index is always the SVD's.
    """
    return over_cores(lambda block: _index_of_block(block, threshold), maps)


def cumulative_share(values: Tensor) -> Tensor:
    """Return running sums over the last axis as shares of the whole; NaN where that is zero."""
    running = values.cumsum(-1)
    return running / running[..., -1:]


def first_index(values: Tensor, threshold: float) -> Tensor:
    """Return the first place, from 1, where the cumulative share reaches the threshold.

    Values [..., value], largest first. Float64, because it is NaN where the share is undefined.
    """
    share = cumulative_share(values)
    index = 1 + (share < threshold).sum(-1).to(torch.float64)
    return index.masked_fill(share[..., -1].isnan(), math.nan)


def effective_rank(sigma: Tensor) -> Tensor:
    """Return exp of the entropy of sigma / sum(sigma), [...] of [..., value] (Roy & Vetterli)."""
    entropy: Tensor = torch.special.entr(sigma / sigma.sum(-1, keepdim=True)).sum(-1)
    return entropy.exp()


def stable_rank(sigma: Tensor) -> Tensor:
    """Return the squared Frobenius norm over the squared spectral norm, [...] of [..., value]."""
    return sigma.square().sum(-1) / sigma[..., 0].square()


def over_cores(work: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """Return the work's results on blocks of maps, joined; on a CPU one core takes one block.

    LAPACK gains nothing from a second core on a matrix of a few hundred rows, but two matrices at
    once take half the time, and the result no longer depends on how many cores there are.
    """
    per_block = max(1, BLOCK_BYTES // (8 * maps.shape[-2] * maps.shape[-1]))
    blocks = torch.split(maps.detach(), per_block)
    threads = torch.get_num_threads()
    if maps.device.type != "cpu" or threads == 1 or len(blocks) == 1:
        return torch.cat([work(block) for block in blocks])
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(work, blocks)))
    finally:
        torch.set_num_threads(threads)


def _index_of_block(maps: Tensor, threshold: float) -> Tensor:
    sigma = _guarded(_gram_values, maps)
    near = _near_tie(sigma, threshold)
    if near.any():
        sigma[near] = _guarded(torch.linalg.svdvals, maps[near])
    return first_index(sigma, threshold)


def _gram_values(maps: Tensor) -> Tensor:
    squares: Tensor = torch.linalg.eigvalsh(maps @ maps.mT)
    return squares.clamp_min(0).sqrt().flip(-1)


def _near_tie(sigma: Tensor, threshold: float) -> Tensor:
    """Return where rounding in A A^T could have moved the index, bool [map].

    An eigenvalue is off by d = N eps sigma_1^2 at most, its root by min(sqrt(d), d / sigma), and a
    share by the sum of these over the sum of sigma.
    """
    error = sigma.shape[-1] * torch.finfo(sigma.dtype).eps * sigma[..., :1].square()
    moved = torch.minimum(error.sqrt(), error / sigma).nansum(-1) / sigma.sum(-1)
    return ((cumulative_share(sigma) - threshold).abs() <= moved[..., None]).any(-1)


def _guarded(decompose: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """Decompose maps in float64; LAPACK refuses values that are not finite, so they go round it."""
    exact = maps.to(torch.float64)
    finite = exact.isfinite().all(-1).all(-1)
    values = decompose(exact.where(finite[:, None, None], 0.0))
    return values.masked_fill(~finite[:, None], math.nan)
