from __future__ import annotations

import random as python_random

import numpy as np
import pytest
import torch
from PIL import Image

from illama.sources.demo import draw
from illama.training.augmentation import (
    OPERATIONS,
    Augmentation,
    crop_resized,
    erase,
    jitter_colors,
    parse_rand_augment,
    rand_augment,
    shift,
)
from illama.training.recipe import RecipeError, find_recipe
from illama.transforms import evaluation_transform

DEMO = find_recipe("demo")
FILL = (124, 116, 104)


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture(scope="module")
def photograph():
    columns, rows = np.meshgrid(np.arange(90), np.arange(70))
    noise = generator().integers(0, 40, (70, 90))
    pixels = np.stack([columns * 2 + noise, rows * 3, (rows * columns) % 256], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_operations_and_magnitudes_are_timms(reference, photograph, monkeypatch, name, sign):
    timm = reference("timm.data.auto_augment")
    monkeypatch.setattr(timm, "_randomly_negate", lambda value: sign * value)
    for magnitude in (0.0, 2.5, 9.0, 9.9):  # at 10, Pillow refuses timm's posterizing to 0 bits
        settings = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
        operation = timm.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=settings)
        ours = OPERATIONS[name](photograph, magnitude / 10, sign, FILL)
        assert np.array_equal(np.asarray(ours), np.asarray(operation(photograph)))


def test_the_policy_is_timms(reference):
    timm = reference("timm.data.auto_augment")
    policy = timm.rand_augment_transform("rand-m9-mstd0.5-inc1", {"img_mean": FILL})
    assert [operation.name for operation in policy.ops] == list(OPERATIONS)
    assert policy.num_layers == 2
    assert {(op.prob, op.magnitude, op.magnitude_std) for op in policy.ops} == {(0.5, 9, 0.5)}
    assert parse_rand_augment("rand-m9-mstd0.5-inc1") == (9, 0.5)


def test_posterizing_at_the_largest_magnitude_leaves_nothing(photograph):
    assert not np.asarray(OPERATIONS["PosterizeIncreasing"](photograph, 1.0, 1, FILL)).any()


def test_images_are_left_alone_as_often_as_by_timm(photograph):
    random, same = generator(), 0
    for _ in range(400):
        seen = rand_augment(photograph, 9.0, 0.5, FILL, random)
        same += seen is photograph
    assert same / 400 == pytest.approx(0.25, abs=0.06)


class Scripted:
    """A generator of both kinds that plays back the same uniform shares."""

    def __init__(self, shares):
        self.shares = iter(shares)

    def uniform(self, low, high):
        return low + (high - low) * next(self.shares)

    def integers(self, low, high, endpoint):
        return self.randint(low, high)

    def randint(self, low, high):
        return low + int(next(self.shares) * (high - low + 1))

    def random(self):
        return 0.0


def test_resized_crops_are_timms(reference, photograph, monkeypatch):
    timm = reference("timm.data.transforms")
    theirs = timm.RandomResizedCropAndInterpolation(32, interpolation="bicubic")
    shares = generator().random((30, 64))
    shares[0, ::2] = 0.999  # never fits: the fallback
    for row in shares:
        monkeypatch.setattr(timm, "random", Scripted(row))
        expected = np.asarray(theirs(photograph))
        ours = crop_resized(photograph, 32, 0.08, Scripted(row))
        assert np.array_equal(np.asarray(ours), expected)


def test_erased_rectangles_are_timms(reference, monkeypatch):
    timm = reference("timm.data.random_erasing")
    theirs = timm.RandomErasing(1.0, mode="pixel", device="cpu")
    for row in generator().random((20, 64)):
        random = Scripted(row)
        random.standard_normal = np.ones
        monkeypatch.setattr(timm, "random", Scripted(row))
        ours = erase(torch.zeros(3, 40, 50), random) != 0
        assert torch.equal(ours, theirs(torch.zeros(3, 40, 50)) != 0)


def test_color_jitter_stays_within_its_bounds():
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    seen = [np.asarray(jitter_colors(grey, 0.4, generator(k))).mean() for k in range(60)]
    assert 60 <= min(seen) < 70
    assert 130 < max(seen) <= 140
    assert np.array_equal(jitter_colors(grey, 0.0, generator()), grey)


def test_crops_of_any_shape_have_the_models_size_and_keep_their_area():
    for size in ((1, 1), (3, 200), (200, 3), (40, 40)):
        seen = crop_resized(Image.new("RGB", size, FILL), 16, 0.08, generator())
        assert seen.size == (16, 16)
        assert np.asarray(seen).std(axis=(0, 1)).max() == 0


def test_shifted_images_keep_their_pixels_and_gain_black(photograph):
    shifted = np.asarray(shift(photograph, 4, generator(1)))
    whole = np.pad(np.asarray(photograph), ((4, 4), (4, 4), (0, 0)))
    height, width = shifted.shape[:2]
    crops = [whole[y : y + height, x : x + width] for y in range(9) for x in range(9)]
    assert sum(np.array_equal(shifted, crop) for crop in crops) == 1
    assert shift(photograph, 0, generator()) is photograph


def test_erasing_is_normal_noise_in_a_rectangle_within_the_published_bounds():
    pixels = torch.zeros(3, 64, 64)
    for seed in range(20):
        erased = erase(pixels.clone(), generator(seed)) != 0
        rows, columns = erased[0].any(1).sum(), erased[0].any(0).sum()
        assert erased.sum() == 3 * rows * columns
        assert 0.015 < rows * columns / 64**2 < 0.35
    noise = erase(pixels.clone(), generator(3))
    assert noise[noise != 0].std().item() == pytest.approx(1, abs=0.1)


def test_a_recipe_without_variation_sees_the_evaluations_pixels():
    transform = evaluation_transform(32)
    image = draw("test", 1).images[0]
    plain = Augmentation(DEMO, transform)
    assert not plain.varies
    assert torch.equal(plain(image, generator()), transform(image))


def test_a_varied_image_is_a_function_of_its_generator_alone():
    recipe = find_recipe("tiny-in1k").override(["image_size=32"])
    vary = Augmentation(recipe, evaluation_transform(32))
    image = draw("test", 1).images[0]
    python_random.seed(0)
    first, again, other = (vary(image, generator(seed)) for seed in (5, 5, 6))
    assert first.shape == (3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.isfinite().all()


def test_a_padded_crop_of_a_mirror_image_is_found_in_the_image():
    recipe = DEMO.override(["crop_padding=2", "flip=1"])
    transform = evaluation_transform(32)
    image = draw("test", 1).images[0]
    seen = Augmentation(recipe, transform)(image, generator())
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))[:, ::-1]
    crops = [padded[y : y + 32, x : x + 32] for y in range(5) for x in range(5)]
    assert any(torch.equal(seen, transform(np.ascontiguousarray(crop))) for crop in crops)


@pytest.mark.parametrize("text", ["rand-m9", "rand-m11-inc1", "augmix", "rand-m9-mstd0.5"])
def test_another_policy_is_refused(text):
    with pytest.raises(RecipeError, match="write rand-mM-mstdS-inc1 with M up to 10"):
        parse_rand_augment(text)
