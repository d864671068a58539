from __future__ import annotations

import hashlib

import numpy as np
import pytest

from illama.sources.demo import SHAPES, TEXTURES, draw


def test_shape_and_texture_agree_where_they_should():
    for split in ("test", "train"):
        drawn = draw(split, 200)
        assert (drawn.shapes == drawn.textures).all()
        assert (drawn.labels == drawn.shapes).all()


def test_shape_and_texture_never_agree_in_cue_conflict():
    drawn = draw("cue-conflict", 900)
    pairs, counts = np.unique(drawn.shapes * 10 + drawn.textures, return_counts=True)
    assert (drawn.shapes != drawn.textures).all()
    assert (drawn.labels == drawn.shapes).all()
    assert len(pairs) == 90
    assert set(counts) == {10}


def test_every_class_is_met_equally_often():
    assert (np.bincount(draw("test", 300).labels) == 30).all()
    assert len(SHAPES) == len(TEXTURES) == 10


def test_types_and_shapes_are_the_documented_ones():
    drawn = draw("train", 20)
    assert (drawn.images.dtype, drawn.images.shape) == (np.uint8, (20, 32, 32, 3))
    assert (drawn.masks.dtype, drawn.masks.shape) == (np.uint8, (20, 32, 32))
    for values in (drawn.labels, drawn.shapes, drawn.textures):
        assert (values.dtype, values.shape) == (np.int64, (20,))


@pytest.mark.parametrize("images", [1, 99, 100, 101])
def test_the_first_pictures_do_not_depend_on_how_many_are_drawn(images):
    few, many = draw("test", images, seed=3), draw("test", 120, seed=3)
    assert (few.images == many.images[:images]).all()
    assert (few.masks == many.masks[:images]).all()


@pytest.mark.parametrize("split", ["test", "cue-conflict"])
def test_single_pictures_in_any_order_are_those_of_the_whole_drawing(split):
    whole, single = draw(split, 230, seed=2), draw(split, 230, seed=2)
    images, masks = whole.images, whole.masks
    for position in np.random.default_rng(0).permutation(230):
        assert (single.read_mask(position) == masks[position]).all()
        assert (single[position] == images[position]).all()
    assert single[0].flags.c_contiguous
    with pytest.raises(IndexError):
        single[230]


def test_each_picture_is_painted_when_it_is_first_read(painted):
    drawn = draw("test", 300)
    assert not painted
    for position in (250, 3, 250, 3):
        drawn.read_mask(position), drawn[position]
    assert len(painted) == 2


def test_splits_and_seeds_share_no_picture():
    drawn = [draw("test", 200), draw("train", 200), draw("test", 200, seed=1)]
    seen = {image.tobytes() for each in drawn for image in each.images}
    assert len(seen) == 600


def test_masks_hold_the_shape_and_nothing_else():
    drawn = draw("cue-conflict", 200)
    for mask, shape in zip(drawn.masks, drawn.shapes, strict=True):
        assert set(np.unique(mask)) == {0, shape + 1}
    covered = (drawn.masks > 0).mean(axis=(1, 2))
    assert covered.min() > 0.05
    assert covered.max() < 0.65


@pytest.mark.parametrize(
    ("split", "recorded"),
    [
        ("test", "8ca559f9c39ab79e"),
        ("train", "9135d6cc28531439"),
        ("cue-conflict", "81adb4c0c6d8b96e"),
    ],
)
def test_the_pictures_are_the_recorded_ones_on_every_platform(split, recorded):
    drawn = draw(split, 100)
    digest = hashlib.sha256(drawn.images.tobytes() + drawn.masks.tobytes()).hexdigest()
    assert digest.startswith(recorded)
