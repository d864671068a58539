"""Training augmentation of single images: crops, flips, RandAugment, color jitter, erasing.

Operations, magnitudes and probabilities are those of timm's ImageNet transforms, which the paper
uses (Table 12); they work on Pillow images, with random numbers of the generator passed in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from illama.training.recipe import Recipe, RecipeError
from illama.transforms import Transform, to_tensor

Random: TypeAlias = np.random.Generator

LAYERS = 2
"""RandAugment's operations per image."""
PROBABILITY = 0.5
"""Probability that each of them is applied."""
LEVELS = 10.0
"""Largest magnitude of RandAugment."""
ASPECTS = (3 / 4, 4 / 3)
"""Width over height of a resized crop."""
ERASED = (0.02, 1 / 3)
"""Smallest and largest share of an image that is erased."""
ERASED_ASPECT = 0.3
"""Smallest aspect of what is erased; its inverse is the largest."""
ATTEMPTS = 10
"""Draws of a rectangle until one fits into the image."""

_BICUBIC = Image.Resampling.BICUBIC
_RAND_AUGMENT = re.compile(r"rand-m(\d+(?:\.\d+)?)(?:-mstd(\d+(?:\.\d+)?))?-inc1")


@dataclass(frozen=True)
class Augmentation:
    """Prepares a decoded image for training; deterministic given the generator."""

    recipe: Recipe
    transform: Transform
    """The evaluation transform, which normalises and, where nothing is cropped, resizes."""

    def __call__(self, image: NDArray[np.uint8], random: Random) -> torch.Tensor:
        """Return a varied image: uint8 [row, column, 3] -> float32 [3, image_size, image_size]."""
        recipe = self.recipe
        if not self.varies:
            return self.transform(image)
        seen = self._cropped(Image.fromarray(image), random)
        if random.random() < recipe.flip:
            seen = ImageOps.mirror(seen)
        if recipe.rand_augment is not None:
            fill = tuple(min(255, round(255 * mean)) for mean in self.transform.mean)
            seen = rand_augment(seen, *parse_rand_augment(recipe.rand_augment), fill, random)
        elif recipe.color_jitter:
            seen = jitter_colors(seen, recipe.color_jitter, random)
        pixels = self.transform.normalize(to_tensor(np.asarray(seen)))
        return erase(pixels, random) if random.random() < recipe.erasing else pixels

    @property
    def varies(self) -> bool:
        """Whether images ever differ from those of the evaluation."""
        recipe = self.recipe
        chances = (recipe.flip, recipe.color_jitter, recipe.erasing, recipe.crop_padding)
        return recipe.crop == "resized" or recipe.rand_augment is not None or any(chances)

    def _cropped(self, image: Image.Image, random: Random) -> Image.Image:
        """Return the image at the model's size."""
        side = self.recipe.image_size
        if self.recipe.crop == "resized":
            image = crop_resized(image, side, self.recipe.crop_scale, random)
        else:
            image = self.transform.geometry.frame(image)
        return shift(image, self.recipe.crop_padding, random)


def crop_resized(image: Image.Image, side: int, smallest: float, random: Random) -> Image.Image:
    """Return a random part of the image, at least `smallest` of its area, resized bicubically."""
    width, height = image.size
    for _ in range(ATTEMPTS):
        area = random.uniform(smallest, 1.0) * width * height
        aspect = math.exp(random.uniform(*np.log(ASPECTS)))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if columns <= width and rows <= height:
            top = int(random.integers(0, height - rows, endpoint=True))
            left = int(random.integers(0, width - columns, endpoint=True))
            break
    else:
        columns = min(width, round(height * ASPECTS[1]))
        rows = min(height, round(width / ASPECTS[0]))
        top, left = (height - rows) // 2, (width - columns) // 2
    part = image.crop((left, top, left + columns, top + rows))
    return part.resize((side, side), _BICUBIC)


def shift(image: Image.Image, padding: int, random: Random) -> Image.Image:
    """Return the image shifted by up to `padding` pixels on each axis, uncovered areas black."""
    if not padding:
        return image
    left, top = (int(each) for each in random.integers(0, 2 * padding, 2, endpoint=True))
    width, height = image.size
    padded = ImageOps.expand(image, padding)
    return padded.crop((left, top, left + width, top + height))


def jitter_colors(image: Image.Image, most: float, random: Random) -> Image.Image:
    """Change brightness, contrast and saturation, in random order, by up to `most` of 1 each."""
    for index in random.permutation(3):
        enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[index]
        image = enhance(image).enhance(random.uniform(max(0.0, 1 - most), 1 + most))
    return image


def erase(pixels: torch.Tensor, random: Random) -> torch.Tensor:
    """Fill a random rectangle of the normalised pixels [3, row, column] with standard noise."""
    _, height, width = pixels.shape
    for _ in range(ATTEMPTS):
        area = random.uniform(*ERASED) * height * width
        aspect = math.exp(random.uniform(math.log(ERASED_ASPECT), -math.log(ERASED_ASPECT)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows < height and columns < width:
            top = int(random.integers(0, height - rows, endpoint=True))
            left = int(random.integers(0, width - columns, endpoint=True))
            noise = random.standard_normal((3, rows, columns), np.float32)
            pixels[:, top : top + rows, left : left + columns] = torch.from_numpy(noise)
            break
    return pixels


def parse_rand_augment(text: str) -> tuple[float, float]:
    """Return magnitude and spread of `rand-m9-mstd0.5-inc1`.

    Raises:
        RecipeError: it has another form, or its magnitude is not in 0..10.
    """
    found = _RAND_AUGMENT.fullmatch(text)
    if not found or float(found[1]) > LEVELS:
        raise RecipeError(f"rand_augment={text!r}: write rand-mM-mstdS-inc1 with M up to 10")
    return float(found[1]), float(found[2] or 0)


def rand_augment(
    image: Image.Image, magnitude: float, spread: float, fill: tuple[int, ...], random: Random
) -> Image.Image:
    """Apply RandAugment (Cubuk et al. 2020): two operations, drawn with replacement.

    Args:
        image: RGB.
        magnitude: 0 to 10; each operation draws its own around it.
        spread: standard deviation of the draws.
        fill: colour of the area that comes in at the edges.
        random: source of all random numbers.
    """
    for name in random.choice(list(OPERATIONS), LAYERS):
        if random.random() <= PROBABILITY:
            level = min(max(random.normal(magnitude, spread), 0.0), LEVELS)
            sign = 1 if random.random() <= PROBABILITY else -1
            image = OPERATIONS[name](image, level / LEVELS, sign, fill)
    return image


Operation: TypeAlias = Callable[[Image.Image, float, int, tuple[int, ...]], Image.Image]
"""(image, strength 0..1, sign, fill) -> image."""


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Return an operation that moves the image away from or towards its plain form."""
    return lambda image, strength, sign, _: kind(image).enhance(max(0.1, 1 + sign * 0.9 * strength))


def _move(largest: float, *, entry: int, relative: int | None = None) -> Operation:
    """Return an affine operation: `entry` of the matrix is drawn, times the side `relative`."""

    def move(image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]) -> Image.Image:
        matrix = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        side = 1 if relative is None else image.size[relative]
        matrix[entry] = sign * strength * largest * side
        affine = Image.Transform.AFFINE
        return image.transform(image.size, affine, matrix, resample=_BICUBIC, fillcolor=fill)

    return move


def _rotate(image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]) -> Image.Image:
    return image.rotate(sign * strength * 30, resample=_BICUBIC, fillcolor=fill)


def _posterize(image: Image.Image, strength: float, *_: object) -> Image.Image:
    kept = 256 - 2 ** (4 + int(strength * 4))  # Pillow's own refuses 0 bits, a black image
    return image.point([value & kept for value in range(256)] * 3)


def _solarize(image: Image.Image, strength: float, *_: object) -> Image.Image:
    return ImageOps.solarize(image, 256 - min(256, int(strength * 256)))


def _solarize_add(image: Image.Image, strength: float, *_: object) -> Image.Image:
    added = min(128, int(strength * 110))
    table = [min(255, value + added) if value < 128 else value for value in range(256)]  # noqa: PLR2004 - the dark half
    return image.point(table * 3)


OPERATIONS: Mapping[str, Operation] = {
    "AutoContrast": lambda image, *_: ImageOps.autocontrast(image),
    "Equalize": lambda image, *_: ImageOps.equalize(image),
    "Invert": lambda image, *_: ImageOps.invert(image),
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _enhance(ImageEnhance.Color),
    "ContrastIncreasing": _enhance(ImageEnhance.Contrast),
    "BrightnessIncreasing": _enhance(ImageEnhance.Brightness),
    "SharpnessIncreasing": _enhance(ImageEnhance.Sharpness),
    "ShearX": _move(0.3, entry=1),
    "ShearY": _move(0.3, entry=3),
    "TranslateXRel": _move(0.45, entry=2, relative=0),
    "TranslateYRel": _move(0.45, entry=5, relative=1),
}
"""RandAugment's operations of increasing strength, in timm's order and by its names."""
