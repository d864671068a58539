# ruff: noqa: PLR2004 - the numbers are the drawing
"""The demo's images: drawn 32-pixel images of ten shapes, each with a texture of its own.

Pixels are computed by integer arithmetic on PCG64 draws, so the images are the same on every
platform. Shapes and textures are functions of integer coordinates: for shapes the radius
is 1024 units, for textures one period is 256.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Integers = NDArray[np.int32]
    Pattern = Callable[[Integers, Integers], NDArray[np.bool_]]

SIDE = 32
_CHUNK = 100
"""Images drawn at once; each chunk has its own random stream, so prefixes agree."""
_UNIT = 16
"""Coordinate steps per final pixel."""
_TURN = 256
"""Angles in a full turn; the tables contain 1024 times the cosine and the sine."""
_COS, _SIN = (
    np.rint(1024 * wave(2 * np.pi * np.arange(_TURN) / _TURN)).astype(np.int32)
    for wave in (np.cos, np.sin)
)
_SPLITS = {"test": 0, "train": 1, "cue-conflict": 2}
_LEAN = _TURN // 16
"""Shapes and textures lean by at most a sixteenth of a turn to either side."""
_DISCS = 3
"""Discs in the background of each shape."""
_NOISE = 9
"""Largest noise of a channel, of 255."""


def _circle(u: Integers, v: Integers) -> NDArray[np.bool_]:
    return u * u + v * v < 900**2


def _square(u: Integers, v: Integers) -> NDArray[np.bool_]:
    return np.maximum(abs(u), abs(v)) < 780


def _triangle(u: Integers, v: Integers) -> NDArray[np.bool_]:
    return (v < 620) & (887 * abs(u) - 512 * v < 620 << 10)


def _star(u: Integers, v: Integers) -> NDArray[np.bool_]:
    # a point of a pentagram is beyond at most one of the five sides of the inner pentagon
    normals = [(0, 1024), (974, 316), (602, -828), (-602, -828), (-974, 316)]
    beyond = sum((x * u + y * v > 400 << 10).astype(np.int8) for x, y in normals)
    return np.asarray(beyond < 2)


def _cross(u: Integers, v: Integers) -> NDArray[np.bool_]:
    along, across = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    return (along < 980) & (across < 330)


def _ring(u: Integers, v: Integers) -> NDArray[np.bool_]:
    square = u * u + v * v
    return (square < 980**2) & (square > 480**2)


def _heart(u: Integers, v: Integers) -> NDArray[np.bool_]:
    aside, below = abs(u), v - 80
    return (aside + abs(below) < 780) | ((aside - 390) ** 2 + (below + 390) ** 2 < 551**2)


def _crescent(u: Integers, v: Integers) -> NDArray[np.bool_]:
    shifted = u + 200
    return (shifted**2 + v * v < 1000**2) & ((shifted - 560) ** 2 + v * v > 760**2)


def _arrow(u: Integers, v: Integers) -> NDArray[np.bool_]:
    head = (v < 60) & (10 * abs(u) < 9 * (v + 1000))
    return head | ((abs(u) < 300) & (v >= 60) & (v < 980))


def _hourglass(u: Integers, v: Integers) -> NDArray[np.bool_]:
    return (abs(v) < 900) & (10 * abs(u) < 8 * abs(v) + 1200)


def _stripes(a: Integers, _: Integers) -> NDArray[np.bool_]:
    return (a & 255) < 128


def _checks(a: Integers, b: Integers) -> NDArray[np.bool_]:
    return ((a ^ b) & 128) < 128


def _dots(a: Integers, b: Integers) -> NDArray[np.bool_]:
    return _centred(a) ** 2 + _centred(b) ** 2 < 84**2


def _bricks(a: Integers, b: Integers) -> NDArray[np.bool_]:
    shifted = a + (b & 128)
    return ((b & 127) < 40) | ((shifted & 255) < 48)


def _zigzags(a: Integers, b: Integers) -> NDArray[np.bool_]:
    return ((b + abs(_centred(a))) & 255) < 128


def _grid(a: Integers, b: Integers) -> NDArray[np.bool_]:
    return ((a & 255) < 80) | ((b & 255) < 80)


def _rings(a: Integers, b: Integers) -> NDArray[np.bool_]:
    return (np.sqrt(a * a + b * b).astype(np.int32) & 255) < 128


def _rays(a: Integers, b: Integers) -> NDArray[np.bool_]:
    lines = range(0, _TURN // 2, _TURN // 16)
    return np.asarray(np.logical_xor.reduce([a * _COS[k] > b * _SIN[k] for k in lines]))


def _wedges(a: Integers, b: Integers) -> NDArray[np.bool_]:
    return 2 * abs(_centred(a)) < (b & 255)


def _crosses(a: Integers, b: Integers) -> NDArray[np.bool_]:
    along, across = abs(_centred(a)), abs(_centred(b))
    return (np.maximum(along, across) < 100) & (np.minimum(along, across) < 36)


def _centred(a: Integers) -> Integers:
    return (a & 255) - 128


_SHAPES: Mapping[str, Pattern] = MappingProxyType(
    {
        "circle": _circle,
        "square": _square,
        "triangle": _triangle,
        "star": _star,
        "cross": _cross,
        "ring": _ring,
        "heart": _heart,
        "crescent": _crescent,
        "arrow": _arrow,
        "hourglass": _hourglass,
    }
)
_TEXTURES: Mapping[str, Pattern] = MappingProxyType(
    {
        "wedges": _wedges,
        "crosses": _crosses,
        "dots": _dots,
        "checks": _checks,
        "zigzags": _zigzags,
        "grid": _grid,
        "rings": _rings,
        "rays": _rays,
        "bricks": _bricks,
        "stripes": _stripes,
    }
)
SHAPES = tuple(_SHAPES)
"""Class i is shape i ..."""
TEXTURES = tuple(_TEXTURES)
"""... with texture i, in the congruent splits."""

_DARK = np.array(
    [(27, 38, 79), (74, 20, 48), (15, 63, 56), (61, 43, 20), (38, 38, 44), (70, 22, 92)], np.int32
)
_LIGHT = np.array(
    [
        (250, 233, 190),
        (255, 209, 102),
        (174, 236, 239),
        (255, 194, 209),
        (216, 243, 180),
        (244, 244, 248),
    ],
    np.int32,
)
_FADES = np.array([(0,), (0,), (32,), (64,), (192,)], np.int32)
"""How far the paper fades into the ink, of 256; a faint texture leaves only the shape as a cue."""
_MIDDLE = np.array(
    [
        (120, 144, 156),
        (141, 110, 99),
        (86, 140, 110),
        (178, 116, 84),
        (112, 118, 178),
        (160, 108, 140),
        (140, 140, 90),
        (84, 134, 158),
    ],
    np.int32,
)


@dataclass(frozen=True, eq=False)
class DemoImages:
    """Drawn images with their labels."""

    images: NDArray[np.uint8]
    """[image, 32, 32, 3]"""
    labels: NDArray[np.int64]
    """[image], equal to `shapes`."""
    shapes: NDArray[np.int64]
    """[image], indices of `SHAPES`."""
    textures: NDArray[np.int64]
    """[image], indices of `TEXTURES`."""
    masks: NDArray[np.uint8]
    """[image, 32, 32]: 0 for the background, shape + 1 inside."""


def draw(split: Literal["test", "train", "cue-conflict"], images: int, seed: int = 0) -> DemoImages:
    """Draw images in random order, each class once in ten.

    In `test` and `train` shape and texture agree; in `cue-conflict` they never do, and each of the
    ninety pairs comes once in ninety (counts are equal where these numbers divide `images`, in
    steps of 100). Drawing more images of a split does not change the first ones.
    """
    starts = range(0, images, _CHUNK)
    chunks = [_draw_chunk(split, seed, chunk) for chunk in range(len(starts))]
    return DemoImages(
        **{
            each.name: np.concatenate([getattr(chunk, each.name) for chunk in chunks])[:images]
            for each in fields(DemoImages)
        }
    )


def _draw_chunk(split: str, seed: int, chunk: int) -> DemoImages:
    random = np.random.Generator(np.random.PCG64([seed, _SPLITS[split], chunk]))
    shapes, textures = _draw_classes(random, chunk, conflict=split == "cue-conflict")
    x, y = _draw_position(random)
    inside = _draw_patterns(_SHAPES, shapes, *_shape_coordinates(random, x, y))
    inked = _draw_patterns(_TEXTURES, textures, *_texture_coordinates(random, x, y))
    ink, paper = _draw_colours(random)
    ink_parts, paper_parts = _count(inside & inked), _count(inside & ~inked)
    covered = ink_parts + paper_parts
    canvas = ink * ink_parts + paper * paper_parts + _draw_background(random) * (4 - covered)
    noise = random.integers(-_NOISE, _NOISE, canvas.shape, np.int32, endpoint=True)
    return DemoImages(
        images=np.clip(((canvas + 2) >> 2) + noise, 0, 255).astype(np.uint8),
        labels=shapes,
        shapes=shapes,
        textures=textures,
        masks=np.where(covered[..., 0] >= 2, shapes[:, None, None] + 1, 0).astype(np.uint8),
    )


def _draw_classes(
    random: np.random.Generator, chunk: int, *, conflict: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    position = chunk * _CHUNK + random.permutation(_CHUNK).astype(np.int64)
    shapes = position % len(SHAPES)
    shift = 1 + position // len(SHAPES) % (len(TEXTURES) - 1) if conflict else 0
    return shapes, (shapes + shift) % len(TEXTURES)


def _coordinates(side: int) -> tuple[Integers, Integers]:
    """Return the pixel centres of a canvas of `side` pixels: x [1, 1, side], y [1, side, 1]."""
    axis = (2 * np.arange(side, dtype=np.int32) + 1) * (SIDE * _UNIT // (2 * side))
    return axis[None, None, :], axis[None, :, None]


def _draw_position(random: np.random.Generator) -> tuple[Integers, Integers]:
    """Return the coordinates relative to a random centre: x [image, 1, fine], y [.., fine, 1]."""
    x, y = _coordinates(2 * SIDE)
    left, top = (_draw_integers(random, 14 * _UNIT, 18 * _UNIT) for _ in range(2))
    return x - left, y - top


def _shape_coordinates(
    random: np.random.Generator, x: Integers, y: Integers
) -> tuple[Integers, Integers]:
    radius = _draw_integers(random, 12 * _UNIT, 15 * _UNIT)
    u, v = _rotate(x, y, _draw_integers(random, -_LEAN, _LEAN))
    return u // radius, v // radius


def _texture_coordinates(
    random: np.random.Generator, x: Integers, y: Integers
) -> tuple[Integers, Integers]:
    period = _draw_integers(random, 6 * _UNIT, 8 * _UNIT)
    a, b = _rotate(x, y, _draw_integers(random, -_LEAN, _LEAN))
    across, down = (_draw_integers(random, -64, 64) for _ in range(2))
    return (a // 4) // period + across, (b // 4) // period + down


def _rotate(x: Integers, y: Integers, angle: Integers) -> tuple[Integers, Integers]:
    """Turn the coordinates; they grow 1024-fold."""
    return x * _COS[angle] + y * _SIN[angle], y * _COS[angle] - x * _SIN[angle]


def _draw_integers(random: np.random.Generator, low: int, high: int) -> Integers:
    """Draw one whole number for each image, both ends included, int32 [image, 1, 1]."""
    return random.integers(low, high, (_CHUNK, 1, 1), np.int32, endpoint=True)


def _draw_patterns(
    patterns: Mapping[str, Pattern], which: NDArray[np.int64], u: Integers, v: Integers
) -> NDArray[np.bool_]:
    """Draw the pattern of each image, bool [image, fine, fine]."""
    drawn = np.empty(u.shape, bool)
    for index, pattern in enumerate(patterns.values()):
        of_class = which == index
        drawn[of_class] = pattern(u[of_class], v[of_class])
    return drawn


def _draw_colours(random: np.random.Generator) -> tuple[Integers, Integers]:
    """Draw a dark and a light colour, either of them the ink, each int32 [image, 1, 1, 3]."""
    dark, light = (_draw_from(random, palette) for palette in (_DARK, _LIGHT))
    fade = _draw_from(random, _FADES)
    swapped = random.integers(0, 2, (_CHUNK, 1, 1, 1), np.int32) == 1
    ink, paper = np.where(swapped, light, dark), np.where(swapped, dark, light)
    return ink, paper + ((ink - paper) * fade >> 8)


def _draw_from(random: np.random.Generator, palette: Integers) -> Integers:
    return palette[random.integers(0, len(palette), (_CHUNK, 1, 1))]


def _draw_background(random: np.random.Generator) -> Integers:
    """Draw a gradient of two middle colours with discs on it, int32 [image, row, column, 3]."""
    x, y = _coordinates(SIDE)
    first, second = (_draw_from(random, _MIDDLE) for _ in range(2))
    half = SIDE * _UNIT // 2
    across, _ = _rotate(x - half, y - half, _draw_integers(random, 0, _TURN - 1))
    share = np.clip(128 + across // 2048, 0, 255)[..., None]
    canvas = first + ((second - first) * share >> 8)
    for _ in range(_DISCS):
        left, top = (_draw_integers(random, 0, SIDE * _UNIT) for _ in range(2))
        radius = _draw_integers(random, 2 * _UNIT, 6 * _UNIT)
        disc = (x - left) ** 2 + (y - top) ** 2 < radius**2
        canvas = np.where(disc[..., None], _draw_from(random, _MIDDLE), canvas)
    return canvas


def _count(fine: NDArray[np.bool_]) -> Integers:
    """Count the set quarters of each pixel, bool [image, fine, fine] -> [image, row, column, 1]."""
    quarters = fine.view(np.uint8)
    rows = quarters[:, ::2] + quarters[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2])[..., None].astype(np.int32)
