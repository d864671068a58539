"""Singular values of attention maps, and the numbers that say how many of them matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.arithmetic import to_numpy
from illama_eval.functional.cores import beside, in_a_part, in_threads

BLOCK_BYTES = 2**20
"""Maps are decomposed in blocks of about this size in float64, which a core's cache holds."""
LOCKED = 500
"""Values up to which one call of numpy keeps the interpreter's lock, so that cores take turns."""
PRECISION = 1e-6
"""Bound on the error of all singular values together, as a share of their sum; it is pessimistic:
of mean maps with a bound of 3e-7, the sum errs by 1e-9 and the effective rank by 2e-8 at most."""

Floats: TypeAlias = NDArray[np.floating]
Matrices: TypeAlias = NDArray[np.float64]
Values: TypeAlias = Callable[[Floats], Matrices]
"""Returns the singular values of maps [map, row, column], [map, value]."""
Doubtful: TypeAlias = Callable[[Tensor], Tensor]
"""Says of singular values [map, value] which maps need an SVD, bool [map]."""


def singular_values(
    maps: Tensor, shares: Sequence[float] = (), energies: Sequence[float] = ()
) -> Tensor:
    """Return the singular values of maps [map, row, column], float64, largest first.

    They come from the eigenvalues of A A^T, about half the work of an SVD. That squares the
    condition number, so an SVD decides where they are not known to PRECISION, and where rounding
    could have moved the index at which they reach one of the `shares` of their sum, or of the
    `energies` of the sum of their squares. The maps are taken to be of one kind: where the first
    needs an SVD, all get one. Those of a map that is not finite are NaN.
    """

    def doubtful(sigma: Tensor) -> Tensor:
        error, squares = _error(sigma), sigma.square()
        doubt = error.sum(-1) > PRECISION * sigma.sum(-1)
        for share in shares:
            doubt |= _near_tie(sigma, error, share)
        for energy in energies:
            doubt |= _near_tie(squares, _error_of_square(sigma), energy)
        return doubt

    first = _decompose(maps[:1], _by_eigenvalues)
    if doubtful(first).any():
        return _decompose(maps, _by_svd)
    return torch.cat((first, _settle(maps[1:], doubtful)))


def index_of_share(maps: Tensor, threshold: float) -> Tensor:
    """Return `first_index` of the singular values of every map [map, row, column] on the CPU.

    A map whose curve passes the threshold more closely than rounding can have shifted it is
    decomposed by an SVD: the index is always the SVD's.
    """

    def doubtful(sigma: Tensor) -> Tensor:
        return _near_tie(sigma, _error(sigma), threshold)

    return first_index(_settle(maps, doubtful), threshold)


def start_index_of_share(maps: Tensor, threshold: float) -> tuple[Future[Tensor], ...]:
    """Return `index_of_share` of maps, in parts that are still to come where they are on a GPU.

    There the cores of the CPU work beside the model: a GPU decomposes few of so small maps at once,
    and in float64.
    """
    if maps.device.type == "cpu":
        done: Future[Tensor] = Future()
        done.set_result(index_of_share(maps, threshold))
        return (done,)
    work = partial(index_of_share, threshold=threshold)
    return beside(work, maps, _maps_in_a_block(maps))


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


def _settle(maps: Tensor, doubtful: Doubtful) -> Tensor:
    """Return singular values by the eigenvalues of A A^T, or by an SVD where these are doubtful."""
    sigma = _decompose(maps, _by_eigenvalues)
    doubt = doubtful(sigma)
    if doubt.any():
        sigma[doubt] = _decompose(maps[doubt], _by_svd)
    return sigma


def _decompose(maps: Tensor, values: Values) -> Tensor:
    """Return the singular values of maps [map, row, column], float64 [map, value].

    Those of a map that is not finite are NaN.
    """
    sigma = torch.empty(maps.shape[:2], dtype=torch.float64)
    numbers, found = to_numpy(maps), sigma.numpy()

    def look(block: slice) -> None:
        found[block] = values(numbers[block])

    size = max(in_a_part(len(maps), _maps_in_a_block(maps)), _least_maps(maps))
    in_threads(look, [slice(first, first + size) for first in range(0, len(maps), size)])
    return sigma


def _maps_in_a_block(maps: Tensor) -> int:
    fits = BLOCK_BYTES // (8 * maps.shape[-2] * maps.shape[-1])
    return max(fits, _least_maps(maps))


def _least_maps(maps: Tensor) -> int:
    """Return how many maps have more singular values than numpy keeps the lock for."""
    return LOCKED // maps.shape[-2] + 1


def _by_eigenvalues(maps: Floats) -> Matrices:
    """Return the roots of the eigenvalues of A A^T, largest first.

    numpy's product forms only the half that is needed, and its LAPACK is faster than torch's, 1.7
    times at 577 tokens (benchmarks/spectra.py).
    """
    squares = _guarded(lambda exact: np.linalg.eigvalsh(exact @ exact.transpose(0, 2, 1)), maps)
    roots: Matrices = np.sqrt(squares.clip(0))[:, ::-1]
    return roots


def _by_svd(maps: Floats) -> Matrices:
    """Return the singular values by numpy, 1.2 to 1.7 times as fast as torch on one core."""
    return _guarded(partial(np.linalg.svd, compute_uv=False), maps)


def _guarded(values: Callable[[Matrices], Any], maps: Floats) -> Matrices:
    """Decompose maps in float64; those that are not finite go round LAPACK and become NaN."""
    exact = maps.astype(np.float64)
    finite = np.isfinite(exact).all((1, 2))
    found = np.full(exact.shape[:2], math.nan)
    found[finite] = values(exact if finite.all() else exact[finite])
    return found


def _error_of_square(sigma: Tensor) -> Tensor:
    """Return how far each eigenvalue of A A^T is off at most, N eps sigma_1^2, [map, value]."""
    size = sigma.shape[-1]
    return size * torch.finfo(sigma.dtype).eps * sigma[..., :1].square().expand_as(sigma)


def _error(sigma: Tensor) -> Tensor:
    """Return how far each singular value is off at most: min(sqrt(d), d / sigma), [map, value]."""
    error = _error_of_square(sigma)
    return torch.minimum(error.sqrt(), (error / sigma).nan_to_num(nan=0.0))


def _near_tie(values: Tensor, error: Tensor, threshold: float) -> Tensor:
    """Return where errors could have moved the index of a share, bool [map].

    A share moves by no more than the sum of all errors over the sum of the values.
    """
    moved = error.sum(-1) / values.sum(-1)
    return ((cumulative_share(values) - threshold).abs() <= moved[..., None]).any(-1)
