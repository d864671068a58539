# ruff: noqa: PLR2004 - the numbers are the drawing
"""The ten shapes and the ten textures of the demo, as functions of integer coordinates.

For shapes the radius is 1024 units, for textures one period is 256.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Integers = NDArray[np.int32]
    Pattern = Callable[[Integers, Integers], NDArray[np.bool_]]

FULL_TURN = 256
"""Angles in a full turn; the tables contain 1024 times the cosine and the sine."""
_COS, _SIN = (
    np.rint(1024 * wave(2 * np.pi * np.arange(FULL_TURN) / FULL_TURN)).astype(np.int32)
    for wave in (np.cos, np.sin)
)


def rotate(x: Integers, y: Integers, angle: int) -> tuple[Integers, Integers]:
    """Turn the coordinates by an angle; they grow 1024-fold."""
    return x * _COS[angle] + y * _SIN[angle], y * _COS[angle] - x * _SIN[angle]


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
    lines = range(0, FULL_TURN // 2, FULL_TURN // 16)
    return np.asarray(np.logical_xor.reduce([a * _COS[k] > b * _SIN[k] for k in lines]))


def _wedges(a: Integers, b: Integers) -> NDArray[np.bool_]:
    return 2 * abs(_centred(a)) < (b & 255)


def _crosses(a: Integers, b: Integers) -> NDArray[np.bool_]:
    along, across = abs(_centred(a)), abs(_centred(b))
    return (np.maximum(along, across) < 100) & (np.minimum(along, across) < 36)


def _centred(a: Integers) -> Integers:
    return (a & 255) - 128


SHAPE_PATTERNS: Mapping[str, Pattern] = MappingProxyType(
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
TEXTURE_PATTERNS: Mapping[str, Pattern] = MappingProxyType(
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
