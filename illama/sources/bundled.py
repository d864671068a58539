"""Sources without files: the drawn demo, scikit-learn's digits and its two photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from illama.sources.demo import SHAPES, draw
from illama.sources.npz import in_memory_source
from illama.sources.source import Source, SourceError, hash_order

DEMO_IMAGES = {"test": 2_000, "train": 20_000, "cue-conflict": 1_800}

SHAPES_IMAGES = {"test": 120, "train": 2_000}

DIGITS_TEST_SHARE = 0.2

PHOTOS = 30

_SMALLEST_CROP = 160


def open_demo(split: str) -> Source:
    """Open a split of the demo: test, train, or cue-conflict (labeled by shape)."""
    _check_split("demo", split, tuple(DEMO_IMAGES))
    drawn = draw(split, DEMO_IMAGES[split])  # type: ignore[arg-type]  # one of the keys
    source = in_memory_source("demo", split, range(len(drawn)), drawn, drawn.labels, SHAPES)
    if split != "cue-conflict":
        return source
    cues = np.stack((drawn.shapes, drawn.textures), axis=1)
    return replace(source, cues=cues, categories=SHAPES)


def open_demo_shapes(split: str) -> Source:
    """Open the demo's images with the class of each pixel: background, or one of ten shapes."""
    _check_split("demo-shapes", split, ("test", "train"))
    drawn = draw(split, SHAPES_IMAGES[split])  # type: ignore[arg-type]  # one of the keys
    source = in_memory_source("demo-shapes", split, range(len(drawn)), drawn, None, None)
    return replace(
        source, masks=drawn.read_mask, mask_classes=("background", *SHAPES), background=(0,)
    )


def open_digits(split: str) -> Source:
    """Open scikit-learn's handwritten digits, 8 x 8 grey; test is the fifth of smallest hash."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes 1.5 s, which other sources do not need

    _check_split("digits", split, ("test", "train"))
    digits = load_digits()
    grey = (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)
    order = hash_order([f"{i:05d}" for i in range(len(grey))])
    is_test = order < round(DIGITS_TEST_SHARE * len(grey))
    kept = np.flatnonzero(is_test == (split == "test"))
    images = np.repeat(grey[kept, :, :, None], 3, axis=3)
    names = tuple(str(name) for name in digits.target_names)
    return in_memory_source(
        "digits", split, kept.tolist(), images, digits.target[kept].astype(np.int64), names
    )


def open_photos(_: str) -> Source:
    """Cut 30 seeded square crops from scikit-learn's two photographs: no labels, no splits."""
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 - as above

    photographs = load_sample_images().images
    random = np.random.Generator(np.random.PCG64(0))
    crops = [_crop(photographs[i % len(photographs)], random) for i in range(PHOTOS)]
    return in_memory_source("photos", "all", range(PHOTOS), crops, None, None)


def _crop(photograph: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    height, width = photograph.shape[:2]
    side = int(random.integers(_SMALLEST_CROP, min(height, width), endpoint=True))
    top, left = (int(random.integers(length - side + 1)) for length in (height, width))
    return np.ascontiguousarray(photograph[top : top + side, left : left + side])


def _check_split(name: str, split: str, splits: Sequence[str]) -> None:
    if split not in splits:
        raise SourceError(f"{name} has no split {split!r}; it has {', '.join(splits)}")
