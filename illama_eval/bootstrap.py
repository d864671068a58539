"""Bootstrap weights: from an image's id to its 200 Poisson(1) weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama_eval.statistics import REPLICATES

REPLICATE_SCHEME = "poisson1-splitmix64-blake2b-v1"
"""How image ids become replicate weights; runs are paired only under the same scheme."""

_POISSON_CDF = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(18)])


def key_of(image_id: str) -> int:
    """Return the image's 64-bit hash as a signed integer."""
    digest = hashlib.blake2b(image_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def keys_of(ids: Iterable[str]) -> Tensor:
    """Return the images' 64-bit hashes, int64 [image]."""
    return torch.tensor([key_of(image_id) for image_id in ids], dtype=torch.int64)


def keys_of_groups(groups: Mapping[str, Sequence[str]]) -> Tensor:
    """Return 64-bit hashes of each image's groups, int64 [image, way of grouping]."""
    ways = [keys_of(f"{way}\0{name}" for name in names) for way, names in groups.items()]
    return torch.stack(ways, dim=1)


def weights_of(keys: Tensor) -> Tensor:
    """Return Poisson(1) weights, float64 [1 + 200, image]; row 0 is all ones.

    A weight depends on the image's hash and the replicate's number alone, so every split of the
    images, and every run over them, sees the same ones. With `keys` of groups, int64
    [image, way of grouping], all images of a group weigh alike; where ways cross, such as shapes
    and textures, an image's weight is the product of its groups', which is somewhat wide
    (Owen 2007).
    """
    if keys.ndim > 1:
        return torch.stack([weights_of(own) for own in keys.unbind(1)]).prod(0)
    seeds = keys.cpu().numpy().view(np.uint64)
    steps = np.arange(1, REPLICATES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = _splitmix64(_splitmix64(seeds)[None, :] + steps[:, None])
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    poisson = np.searchsorted(_POISSON_CDF, uniform, side="right").astype(np.float64)
    return torch.from_numpy(np.concatenate((np.ones((1, len(seeds))), poisson)))


def weights_for(ids: Iterable[str], groups: Mapping[str, Sequence[str]] | None) -> Tensor:
    """Return the weights of images, by their groups where they have some, [1 + 200, image]."""
    return weights_of(keys_of(ids) if groups is None else keys_of_groups(groups))


def scheme_of(groups: Mapping[str, Sequence[str]] | None) -> str:
    """Return how images are weighed: by themselves, or by which groups."""
    if groups is None:
        return REPLICATE_SCHEME
    counts = [f"{len(set(names))} by {way}" for way, names in groups.items()]
    return f"{REPLICATE_SCHEME}, groups: {' x '.join(counts)}"


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64-bit counters into independent 64-bit words (Steele et al. 2014)."""
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
