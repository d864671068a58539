"""What a forward pass lets studies observe: one piece per block, and one for the output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

Wanted = Literal[
    "used",
    "softmax",
    "tokens",
    "previous",
    "lens",
    "rollout",
    "logits",
    "features",
    "segments",
    "replaced",
    "closed",
    "background",
]
"""Names of what can be requested; every other field of a piece is always present or None."""

Form = Literal["full", "lower", "soft"]
"""What a mask is: none, so that `used` is the softmax; the lower triangle, with a factor of one
there if the mask follows the softmax; or another factor after the softmax."""

WANTED: frozenset[Wanted] = frozenset(get_args(Wanted))
LAYER_WANTED: frozenset[Wanted] = frozenset(
    ("used", "softmax", "tokens", "previous", "lens", "rollout")
)
"""What comes with every block; the rest comes once, at the end."""
PROBE_WANTED: frozenset[Wanted] = frozenset(("replaced", "closed"))
"""Further passes over changed images, which the evaluation loop makes, not the model."""
SEGMENTER_WANTED: frozenset[Wanted] = frozenset(("segments",))
"""What only segmenters have."""
SOURCE_WANTED: frozenset[Wanted] = frozenset(("background",))
"""What the masks of a source say, not the model: the evaluation loop attaches it."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Which images a piece is about, and the weight of each in every replicate."""

    ids: tuple[str, ...]
    """Stable image ids."""
    labels: Tensor | None
    """True classes, int64 [image]; None for unlabelled sources."""
    further_labels: Tensor | None = None
    """Further true classes, int64 [image, most], -1 where there are no more; None where every
    image has one."""
    positions: Tensor
    """Each image's index in the source, int64 [image], 0 to count - 1."""
    order: Tensor
    """Rank of the image's hash among all images of the source, int64 [image], 0 = smallest; on the
    CPU, where images are chosen by it."""
    keys: Tensor
    """The image's 64-bit hash, int64 [image]: seeds its replicate weights, splits folds."""
    group_keys: Tensor | None = None
    """64-bit hashes of the groups that the image is in, int64 [image, way of grouping]: they seed
    its weights; None where all images are independent."""
    weights: Tensor
    """Poisson weights, float64 [1 + replicates, image]; row 0 is all ones."""
    count: int
    """Images in the whole source."""
    cues: Tensor | None = None
    """Category of the shape and of the texture, int64 [image, 2]; None for other sources."""
    masks: tuple[Tensor, ...] | None = None
    """Class of each pixel, int64 [row, column] per image, 255 where there is none; None unless
    segments are wanted."""

    @property
    def size(self) -> int:
        """Images in this batch."""
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class LayerSeen:
    """One block, observed on one batch; fields that were not wanted are None."""

    index: int
    """Number of the block, from 1."""
    open: Tensor
    """Where `used` can be non-zero, bool [query, key]."""
    class_index: int | None
    """Index of the class token among the tokens; None where there is none."""
    image_tokens: slice
    """Which tokens are patches of the image, row by row; the others are class, registers, ..."""
    factor: Tensor | None = None
    """S with used = softmax * S, [query, key]; None for masks inside the softmax."""
    form: Form | None = None
    """What the mask is, known without reading it back from a GPU; None: another, or not known."""
    used: Tensor | None = None
    """The weights that multiply the values, [image, head, query, key]."""
    softmax: Tensor | None = None
    """Softmax of the scores over all keys, [image, head, query, key]."""
    tokens: Tensor | None = None
    """Output of the block, [image, token, channel]."""
    previous: Tensor | None = None
    """`used` of the block before, [image, head, query, key]; None at the first."""
    lens: Tensor | None = None
    """The head's logits read off after this block, through the final norm: of the class token and
    of the mean of the patches, [image, 2, class]."""
    rollout: Tensor | None = None
    """How much of each input token reaches each token up to this block, [image, query, key]."""
    background: Tensor | None = None
    """Which pixels of the image as the model takes it are background, bool [image, row, column];
    None where the source does not say."""
    batch: Batch | None = None
    reference: LayerSeen | None = None
    """The same block of the first subject on the same batch, for studies that compare two."""
    changed: Changed | None = None
    """How the images were changed before; None for the images as they are."""


@dataclass(frozen=True, kw_only=True)
class OutputSeen:
    """The network's output, observed on one batch; fields that were not wanted are None."""

    logits: Tensor | None = None
    """[image, class]"""
    features: Tensor | None = None
    """What the head reads, [image, channel]: the class token after the final norm, or a mean."""
    batch: Batch | None = None
    reference: OutputSeen | None = None
    """The same output of the first subject on the same batch."""
    changed: Changed | None = None
    """How the images were changed before; None for the images as they are."""


@dataclass(frozen=True, kw_only=True)
class SegmentsSeen:
    """The predicted class of every pixel, in one inference mode, on one batch."""

    mode: str
    """The inference mode."""
    predicted: tuple[Tensor, ...]
    """Class of each pixel, int64 [row, column] per image."""
    batch: Batch | None = None
    reference: SegmentsSeen | None = None
    """The same of the first subject on the same batch."""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What was done to the images of a piece, and the piece of the same images unchanged."""

    probe: str
    """Name of the probe."""
    kept: Tensor
    """Patches that stayed, the first in raster order, int64 [image]."""
    differs: Tensor | None = None
    """Whether any pixel is another one, bool [image]; None where all images differ."""
    original: Piece
    """The same piece of the same subject and images, unchanged."""


Piece: TypeAlias = LayerSeen | OutputSeen | SegmentsSeen


def present(field: Tensor | None, name: str) -> Tensor:
    """Return a field that was requested.

    Raises:
        ValueError: the field was not among what the observer wanted.
    """
    if field is None:
        raise ValueError(
            f"observation: {name!r} was not requested, so it is missing; add it to wants"
        )
    return field


def batch_of(piece: Piece) -> Batch:
    """Return the batch of a piece.

    Raises:
        ValueError: the piece comes straight from a model and belongs to no source.
    """
    if piece.batch is None:
        raise ValueError("observation: the piece has no batch; observe through the evaluation loop")
    return piece.batch


def check_wanted(wanted: Iterable[str]) -> frozenset[str]:
    """Return the names as a set.

    Raises:
        ValueError: a name is not one of WANTED.
    """
    names = frozenset(wanted)
    unknown = sorted(names - WANTED)
    if unknown:
        raise ValueError(f"observe: {unknown[0]!r} is not one of {', '.join(sorted(WANTED))}")
    return names


def to_float64(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, on its own device."""
    return tensor.to(torch.float64)
