"""The segmentation task: images with masks and their augmentation, pixel loss, test mIoU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from illama.checkpoint.segmenter import is_segmenter, read_segmenter, save_segmenter
from illama.config import Config
from illama.distributed import World
from illama.segmentation_metrics import (
    IGNORED,
    count_areas,
    intersection_over_union,
    pixel_accuracy,
)
from illama.sources.source import Source
from illama.training.initial import fill
from illama.training.loader import Batch, ImageDataset
from illama.training.mixup import Mixing
from illama.training.recipe import Recipe, RecipeError
from illama.training.task import Record, Runs, Scored, TrainingError
from illama.transforms import Transform, evaluation_transform, to_tensor
from illama.upernet import Segmented, Segmenter, SegmenterConfig, resize

AUXILIARY_WEIGHT = 0.4
"""Weight of the auxiliary head's loss."""
LONGEST = 4
"""Largest long side over short side, where a short side is given (2048 to 512)."""
MOST_OF_A_CLASS = 0.75
"""Largest share of a crop that one class may fill; otherwise it is drawn again."""
CROPS = 10
"""Most draws of a crop."""
_BILINEAR, _NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


class Segmentation:
    """One class for each pixel."""

    def build(self, recipe: Recipe) -> Segmenter:
        """Return the recipe's segmenter: random, or from a checkpoint of backbone or segmenter.

        Raises:
            RecipeError: the recipe has an average of weights, or mixes images.
            CheckpointError: the weights to start from are missing or do not fit.
        """
        if recipe.ema is not None or recipe.mixes:
            raise RecipeError(
                f"recipe {recipe.name}: segmentation supports no average and no mixed images; set "
                "ema=none, mixup=0 and cutmix=0"
            )
        config = SegmenterConfig(
            backbone=Config.at(recipe.step, recipe.size, image_size=recipe.image_size, classes=1),
            classes=recipe.classes,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            segmenter = Segmenter(config)
        if recipe.start is None:
            return segmenter
        if is_segmenter(recipe.start):
            return read_segmenter(recipe.start, image_size=recipe.image_size).segmenter
        fill(segmenter.backbone, recipe.start, without=("head.", "norm."))
        return segmenter

    def check(self, train: Source, test: Source, recipe: Recipe) -> tuple[Source, Source]:
        """Return both sources if their masks have the recipe's classes.

        Raises:
            TrainingError: one has no masks, or another number of classes.
        """
        for source in (train, test):
            _check_masks(source, recipe)
        return train, test

    def dataset(self, source: Source, recipe: Recipe, *, training: bool) -> ImageDataset:
        """Return images with masks: augmented, or resized to the model's square for the log."""
        transform = evaluation_transform(recipe.image_size)
        prepare: Any = (
            MaskedAugmentation(recipe, transform) if training else partial(_squeeze, transform)
        )
        return MaskedImageDataset(source, prepare, recipe.seed, substitutes=training)

    def score(self, outputs: Segmented, labels: Tensor, mixing: Mixing, recipe: Recipe) -> Scored:
        """Return the loss of both heads, and the sum of the shares of correct pixels."""
        del mixing, recipe
        logits = resize(outputs.logits.float(), labels.shape[1:])
        loss = pixel_loss(logits, labels)
        if outputs.auxiliary is not None:
            auxiliary = resize(outputs.auxiliary.float(), labels.shape[1:])
            loss = loss + AUXILIARY_WEIGHT * pixel_loss(auxiliary, labels)
        counted = labels != IGNORED
        right = ((logits.argmax(1) == labels) & counted).flatten(1).sum(1)
        return Scored(loss, (right / counted.flatten(1).sum(1).clamp(min=1)).sum())

    @torch.no_grad()
    def evaluate(self, runs: Runs, batches: Iterable[Batch], world: World) -> Record:
        """Return `test_loss`, `test_miou` and the share of correct pixels, `test_acc1` (percent).

        Images are resized to the model's square, for the log only; `illama-eval segment` evaluates
        them at their own size.
        """
        totals: dict[str, Tensor] = {}
        for batch in batches:
            if not len(batch.images):
                continue
            pixels = batch.images.to(world.device, non_blocking=True)
            labels = batch.labels.to(world.device, non_blocking=True)
            for ending, run in runs.items():
                outputs: Any = run(pixels)
                logits = resize(outputs.logits.float(), labels.shape[1:])
                areas = count_areas(tuple(logits.argmax(1)), tuple(labels), logits.shape[1])
                loss = pixel_loss(logits, labels).double() * len(labels)
                sums = torch.stack((loss, loss.new_full((), len(labels))))
                counted = torch.cat((areas.double().sum(0).flatten(), sums))
                totals[ending] = totals.get(ending, 0) + counted
        return {
            name: value
            for ending, total in world.add_sums(totals).items()
            for name, value in _numbers(total.cpu(), ending).items()
        }

    def save(
        self, network: Any, path: Path, *, class_names: Sequence[str] | None = None, **about: Any
    ) -> None:
        """Write a segmenter's checkpoint."""
        save_segmenter(network, path, names=tuple(class_names or ()), **about)

    def read(self, path: Path, *, ema: bool = False) -> Segmenter:
        """Return the segmenter of a checkpoint."""
        assert not ema
        return read_segmenter(path).segmenter


def _check_masks(source: Source, recipe: Recipe) -> None:
    if source.masks is None:
        raise TrainingError(f"{source.name} has no masks; use an ADE20K folder, or demo-shapes")
    count = len(source.mask_classes or ())
    if count != recipe.classes:
        raise TrainingError(
            f"{source.name} has {count} pixel classes, recipe {recipe.name} has"
            f" {recipe.classes}; set classes={count}"
        )


def pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the pixels that have a class, 0 where none has."""
    total = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def _numbers(total: Tensor, ending: str) -> Record:
    """Return the log's numbers from summed areas, loss and images."""
    areas = total[:-2].view(3, -1)
    return {
        f"test_loss{ending}": float(total[-2] / total[-1]),
        f"test_miou{ending}": 100 * float(intersection_over_union(areas).nanmean()),
        f"test_acc1{ending}": 100 * float(pixel_accuracy(areas)),
    }


class MaskedImageDataset(ImageDataset):
    """Images labeled by masks."""

    def read_example(self, position: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return a prepared image, and the class of each of its pixels.

        Raises:
            ImageError: image or mask cannot be read, or their sizes differ.
        """
        image, mask = self.source.read_pair(position)
        prepare: Any = self.prepare
        pixels, truth = prepare(image, mask, random)
        return pixels, torch.from_numpy(truth.astype(np.int64))


def _squeeze(
    transform: Transform, image: NDArray[np.uint8], mask: NDArray[np.uint8], _: object
) -> tuple[Tensor, NDArray[np.uint8]]:
    """Return image and mask resized to the model's square."""
    size = (transform.image_size, transform.image_size)
    seen = np.asarray(Image.fromarray(image).resize(size, _BILINEAR))
    truth = np.asarray(Image.fromarray(mask).resize(size, _NEAREST))
    return transform.normalize(to_tensor(seen)), truth


@dataclass(frozen=True)
class MaskedAugmentation:
    """Random scale, crop, flip and colours, drawn for each image; its mask follows."""

    recipe: Recipe
    transform: Transform

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], random: np.random.Generator
    ) -> tuple[Tensor, NDArray[np.uint8]]:
        """Return an augmented image [3, side, side] and its mask [side, side]."""
        recipe, side = self.recipe, self.recipe.image_size
        size = scaled_size(image.shape[1], image.shape[0], recipe, random)
        seen = np.asarray(Image.fromarray(image).resize(size, _BILINEAR))
        truth = np.asarray(Image.fromarray(mask).resize(size, _NEAREST))
        rows, columns = draw_crop(truth, side, random)
        seen, truth = seen[rows, columns], truth[rows, columns]
        if random.random() < recipe.flip:
            seen, truth = seen[:, ::-1], truth[:, ::-1]
        if recipe.photometric:
            seen = distort(np.ascontiguousarray(seen), random)
        pixels = self.transform.normalize(to_tensor(seen))
        below, right = side - truth.shape[0], side - truth.shape[1]
        padded = functional.pad(pixels, (0, right, 0, below))
        return padded, np.pad(truth, ((0, below), (0, right)), constant_values=IGNORED)


def scaled_size(
    width: int, height: int, recipe: Recipe, random: np.random.Generator
) -> tuple[int, int]:
    """Return width and height at a drawn scale, the aspect kept."""
    factor = random.uniform(1 / recipe.scales, recipe.scales)
    if recipe.short_side is not None:
        short, long = sorted((width, height))
        factor *= min(recipe.short_side / short, LONGEST * recipe.short_side / long)
    return max(1, round(width * factor)), max(1, round(height * factor))


def draw_crop(
    mask: NDArray[np.uint8], side: int, random: np.random.Generator
) -> tuple[slice, slice]:
    """Draw rows and columns of a crop, at most `side`, that one class does not nearly fill."""
    for _ in range(CROPS):
        top, left = (int(random.integers(max(length - side, 0) + 1)) for length in mask.shape)
        crop = slice(top, top + side), slice(left, left + side)
        counts = np.bincount(mask[crop].ravel(), minlength=IGNORED + 1)[:IGNORED]
        if np.count_nonzero(counts) > 1 and counts.max() < MOST_OF_A_CLASS * counts.sum():
            break
    return crop


def distort(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Vary brightness, contrast, saturation and hue, each half of the time.

    Brightness by up to 32 of 255, contrast and saturation by factors of 0.5 to 1.5, hue by up to a
    tenth of the circle (18 of OpenCV's 180); contrast before or after the colours.
    """
    pixels = image.astype(np.float32)
    if random.random() < 0.5:  # noqa: PLR2004 - half of the time
        pixels = pixels + random.uniform(-32, 32)
    early = random.random() < 0.5  # noqa: PLR2004 - the same
    if early:
        pixels = _contrast(pixels, random)
    pixels = _colours(np.clip(pixels, 0, 255).astype(np.uint8), random)
    if not early:
        pixels = _contrast(pixels, random)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _contrast(pixels: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    return pixels * random.uniform(0.5, 1.5) if random.random() < 0.5 else pixels  # noqa: PLR2004 - half


def _colours(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.float32]:
    """Vary saturation and hue."""
    hue, saturation, value = (
        np.asarray(channel, np.float32) for channel in Image.fromarray(image).convert("HSV").split()
    )
    if random.random() < 0.5:  # noqa: PLR2004 - half of the time
        saturation = np.clip(saturation * random.uniform(0.5, 1.5), 0, 255)
    if random.random() < 0.5:  # noqa: PLR2004 - the same
        hue = (hue + random.uniform(-0.1, 0.1) * 256) % 256
    channels = np.stack((hue, saturation, value), axis=-1).astype(np.uint8)
    return np.asarray(Image.fromarray(channels, "HSV").convert("RGB"), np.float32)
