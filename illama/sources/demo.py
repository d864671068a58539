# ruff: noqa: PLR2004 - the numbers are the drawing
"""The demo's images: drawn 32-pixel images of ten shapes, each with a texture of its own.

Pixels are computed by integer arithmetic on PCG64 draws, so the images are the same on every
platform. A hundred images share a random stream, so its numbers are drawn together; the pixels of
an image are computed when it is first read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from illama.sources.demo_patterns import FULL_TURN, SHAPE_PATTERNS, TEXTURE_PATTERNS, rotate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from illama.sources.demo_patterns import Integers

SHAPES = tuple(SHAPE_PATTERNS)
"""Class i is shape i ..."""
TEXTURES = tuple(TEXTURE_PATTERNS)
"""... with texture i, in the congruent splits."""

SIDE = 32
_CHUNK = 100
"""Images of one random stream; each chunk has its own, so prefixes agree."""
_CHUNKS_KEPT = 200
"""Chunks whose numbers are kept, 0.3 MB each: all of the training split, so that they are drawn
once in any order of reading."""
_UNIT = 16
"""Coordinate steps per pixel."""
_CENTRES = (2 * np.arange(SIDE, dtype=np.int32) + 1) * (_UNIT // 2)
"""Coordinates of the pixel centres, [column] or [row] ..."""
_FINE_CENTRES = (2 * np.arange(2 * SIDE, dtype=np.int32) + 1) * (_UNIT // 4)
"""... and of the centres of half a pixel."""
_SPLITS = {"test": 0, "train": 1, "cue-conflict": 2}
_LEAN = FULL_TURN // 16
"""Shapes and textures lean by at most a sixteenth of a turn to either side."""
_DISCS = 3
"""Discs in the background of each shape."""
_NOISE = 9
"""Largest noise of a channel, of 255."""

_DARK = np.array(
    [(27, 38, 79), (74, 20, 48), (15, 63, 56), (61, 43, 20), (38, 38, 44), (70, 22, 92)], np.int32
).reshape(-1, 3, 1, 1)
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
).reshape(-1, 3, 1, 1)
_FADES = (0, 0, 32, 64, 192)
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
).reshape(-1, 3, 1, 1)

Number = TypeVar("Number")
"""One number, those of all images of a chunk, or the limits of a number."""


class _Scene(NamedTuple, Generic[Number]):
    """What an image is drawn from, in the order of the random stream."""

    left: Number
    top: Number
    radius: Number
    shape_angle: Number
    period: Number
    texture_angle: Number
    texture_left: Number
    texture_top: Number
    dark: Number
    light: Number
    fade: Number
    swapped: Number
    """1 where the ink is light, and the paper dark."""
    first: Number
    """The background fades from this colour ..."""
    second: Number
    """... to this one."""
    gradient_angle: Number


class _Disc(NamedTuple, Generic[Number]):
    """A disc of the background, in the order of the random stream."""

    left: Number
    top: Number
    radius: Number
    colour: Number


_SCENE = _Scene(
    left=(14 * _UNIT, 18 * _UNIT),
    top=(14 * _UNIT, 18 * _UNIT),
    radius=(12 * _UNIT, 15 * _UNIT),
    shape_angle=(-_LEAN, _LEAN),
    period=(6 * _UNIT, 8 * _UNIT),
    texture_angle=(-_LEAN, _LEAN),
    texture_left=(-64, 64),
    texture_top=(-64, 64),
    dark=(0, len(_DARK) - 1),
    light=(0, len(_LIGHT) - 1),
    fade=(0, len(_FADES) - 1),
    swapped=(0, 1),
    first=(0, len(_MIDDLE) - 1),
    second=(0, len(_MIDDLE) - 1),
    gradient_angle=(0, FULL_TURN - 1),
)
"""The smallest and the largest of each number."""
_DISC = _Disc(
    left=(0, SIDE * _UNIT),
    top=(0, SIDE * _UNIT),
    radius=(2 * _UNIT, 6 * _UNIT),
    colour=(0, len(_MIDDLE) - 1),
)


class _Chunk(NamedTuple):
    """The random numbers of a hundred images."""

    shapes: NDArray[np.int64]
    textures: NDArray[np.int64]
    scene: _Scene[Integers]
    """Each number [image]."""
    discs: tuple[_Disc[Integers], ...]
    noise: NDArray[np.int8]
    """[image, 32, 32, 3]"""


class _Picture(NamedTuple):
    image: NDArray[np.uint8]
    """[32, 32, 3]"""
    mask: NDArray[np.uint8]
    """[32, 32]"""


@dataclass(frozen=True, eq=False)
class DemoImages:
    """Images by position, with their labels; each is drawn when it is first read, and kept."""

    split: str
    seed: int
    shapes: NDArray[np.int64] = field(repr=False)
    """[image], indices of `SHAPES`."""
    textures: NDArray[np.int64] = field(repr=False)
    """[image], indices of `TEXTURES`."""
    _drawn: dict[int, _Picture] = field(init=False, default_factory=dict, repr=False)

    @property
    def labels(self) -> NDArray[np.int64]:
        """[image], equal to `shapes`."""
        return self.shapes

    @property
    def images(self) -> NDArray[np.uint8]:
        """All images, [image, 32, 32, 3]."""
        return np.stack([self[position] for position in range(len(self))])

    @property
    def masks(self) -> NDArray[np.uint8]:
        """All masks, [image, 32, 32]."""
        return np.stack([self.read_mask(position) for position in range(len(self))])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.shapes)

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        """Return the image at a position, [32, 32, 3]."""
        return self._picture(position).image

    def read_mask(self, position: int) -> NDArray[np.uint8]:
        """Return a position's mask, [32, 32]: 0 for the background, shape + 1 inside."""
        return self._picture(position).mask

    def _picture(self, position: int) -> _Picture:
        if position not in self._drawn:
            number, index = divmod(range(len(self))[position], _CHUNK)
            self._drawn[position] = _paint(_draw_chunk(self.split, self.seed, number), index)
        return self._drawn[position]


def draw(split: Literal["test", "train", "cue-conflict"], images: int, seed: int = 0) -> DemoImages:
    """Draw images in random order, each class once in ten.

    In `test` and `train` shape and texture agree; in `cue-conflict` they never do, and each of the
    ninety pairs comes once in ninety (counts are equal where these numbers divide `images`, in
    steps of 100). Drawing more images of a split does not change the first ones.
    """
    numbers = range(len(range(0, images, _CHUNK)))
    classes = [_draw_classes(_stream(split, seed, number), split, number) for number in numbers]
    shapes, textures = (np.concatenate(each)[:images] for each in zip(*classes, strict=True))
    return DemoImages(split, seed, shapes, textures)


def _stream(split: str, seed: int, number: int) -> np.random.Generator:
    """Return the random stream of a chunk; classes come first in it, noise last."""
    return np.random.Generator(np.random.PCG64([seed, _SPLITS[split], number]))


def _draw_classes(
    random: np.random.Generator, split: str, number: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the shape and the texture of each image of a chunk."""
    position = number * _CHUNK + random.permutation(_CHUNK).astype(np.int64)
    shapes = position % len(SHAPES)
    conflict = split == "cue-conflict"
    shift = 1 + position // len(SHAPES) % (len(TEXTURES) - 1) if conflict else 0
    return shapes, (shapes + shift) % len(TEXTURES)


@lru_cache(_CHUNKS_KEPT)
def _draw_chunk(split: str, seed: int, number: int) -> _Chunk:
    random = _stream(split, seed, number)
    draw_each = partial(_draw_integers, random)
    shapes, textures = _draw_classes(random, split, number)
    return _Chunk(
        shapes,
        textures,
        scene=_Scene(*map(draw_each, _SCENE)),
        discs=tuple(_Disc(*map(draw_each, _DISC)) for _ in range(_DISCS)),
        noise=_draw_integers(random, (-_NOISE, _NOISE), (SIDE, SIDE, 3)).astype(np.int8),
    )


def _draw_integers(
    random: np.random.Generator, limits: tuple[int, int], shape: tuple[int, ...] = ()
) -> Integers:
    """Draw whole numbers for each image, both limits included, int32 [image, ...]."""
    return random.integers(*limits, (_CHUNK, *shape), np.int32, endpoint=True)


def _paint(chunk: _Chunk, index: int) -> _Picture:
    """Compute the pixels of one image of a chunk."""
    scene = _Scene(*(int(each[index]) for each in chunk.scene))
    discs = [_Disc(*(int(each[index]) for each in disc)) for disc in chunk.discs]
    shape = int(chunk.shapes[index])
    inside, inked = _paint_patterns(scene, shape, int(chunk.textures[index]))
    ink, paper = _mix_colours(scene)
    ink_parts, covered = _count(inside & inked), _count(inside)
    canvas = ink * ink_parts + paper * (covered - ink_parts)
    canvas += _paint_background(scene, discs) * (4 - covered)
    pixels = ((canvas + 2) >> 2).transpose(1, 2, 0) + chunk.noise[index]
    return _Picture(
        image=np.clip(pixels, 0, 255).astype(np.uint8, order="C"),
        mask=np.where(covered >= 2, shape + 1, 0).astype(np.uint8),
    )


def _paint_patterns(
    scene: _Scene[int], shape: int, texture: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where the shape is, and where the texture has ink: bool [fine, fine]."""
    x, y = _FINE_CENTRES - scene.left, _FINE_CENTRES[:, None] - scene.top
    u, v = (each // scene.radius for each in rotate(x, y, scene.shape_angle))
    a, b = (each // (4 * scene.period) for each in rotate(x, y, scene.texture_angle))
    a, b = a + scene.texture_left, b + scene.texture_top
    return SHAPE_PATTERNS[SHAPES[shape]](u, v), TEXTURE_PATTERNS[TEXTURES[texture]](a, b)


def _mix_colours(scene: _Scene[int]) -> tuple[Integers, Integers]:
    """Return the colours of ink and paper, either of them the dark one, each int32 [3, 1, 1]."""
    ink, paper = _DARK[scene.dark], _LIGHT[scene.light]
    if scene.swapped:
        ink, paper = paper, ink
    return ink, paper + ((ink - paper) * _FADES[scene.fade] >> 8)


def _paint_background(scene: _Scene[int], discs: list[_Disc[int]]) -> Integers:
    """Paint a gradient of two middle colours with discs on it, int32 [3, row, column]."""
    x, y = _CENTRES, _CENTRES[:, None]
    first, second = _MIDDLE[scene.first], _MIDDLE[scene.second]
    half = SIDE * _UNIT // 2
    across, _ = rotate(x - half, y - half, scene.gradient_angle)
    share = np.clip(128 + across // 2048, 0, 255)
    canvas: Integers = first + ((second - first) * share >> 8)
    for disc in discs:
        covered = (x - disc.left) ** 2 + (y - disc.top) ** 2 < disc.radius**2
        canvas = np.where(covered, _MIDDLE[disc.colour], canvas)
    return canvas


def _count(fine: NDArray[np.bool_]) -> Integers:
    """Count the set quarters of each pixel, bool [fine, fine] -> int32 [row, column]."""
    quarters = fine.view(np.uint8)
    rows = quarters[::2] + quarters[1::2]
    return (rows[:, ::2] + rows[:, 1::2]).astype(np.int32)
