from __future__ import annotations

import pickle

import numpy as np
import pytest

from illama.sources import open_source
from illama.sources.head import for_head
from illama.sources.source import SourceError


def test_the_demo_is_split_three_ways():
    assert len(open_source("demo")) == 2_000
    conflict = open_source("demo", split="cue-conflict")
    assert (len(conflict), conflict.ids[17]) == (1_800, "cue-conflict/00017")
    assert (np.bincount(conflict.labels) == 180).all()
    with pytest.raises(SourceError, match="test, train, cue-conflict"):
        open_source("demo", split="val")


@pytest.mark.parametrize(
    ("name", "split"),
    [("demo", "test"), ("demo", "train"), ("demo", "cue-conflict"), ("demo-shapes", "test")],
)
def test_only_the_drawn_images_that_are_kept_are_painted_and_each_once(name, split, painted):
    source = open_source(name, split=split)
    assert not painted
    kept = source.limit(5, 0)
    assert len(kept.fingerprint) == 64
    seen = [kept.read(i) for i in (4, 2, 0, 1, 3)]
    if kept.masks is not None:
        assert (kept.masks(4) > 0).any()
    assert len(painted) == 5
    sent = pickle.loads(pickle.dumps(kept))
    assert (sent.read(4) == seen[0]).all()
    assert sent.contents == kept.contents
    assert len(painted) == 5


@pytest.mark.parametrize(
    ("name", "split", "recorded"),
    [
        ("demo", "test", "7581b6e5eeac"),
        ("demo", "train", "f79617b797b3"),
        ("demo", "cue-conflict", "75313a7139f2"),
        ("demo-shapes", "test", "7133d6894b35"),
    ],
)
def test_the_fingerprints_of_forty_drawn_images_are_the_recorded_ones(name, split, recorded):
    assert open_source(name, split=split).limit(40, 0).fingerprint.startswith(recorded)


def test_the_digits_are_split_by_their_ids():
    test, train = open_source("digits"), open_source("digits", split="train")
    numbers = [int(each.split("/")[1]) for each in (*test.ids, *train.ids)]
    assert sorted(numbers) == list(range(1797))
    assert len(test) == 359
    assert max(test.read(i).max() for i in range(50)) == 255
    assert for_head(test, 10).labels[:3].tolist() == [3, 8, 9]


def test_the_photographs_are_thirty_unlabeled_crops():
    photos = open_source("photos")
    assert (len(photos), photos.labels, photos.split) == (30, None, "all")
    shapes = [photos.read(i).shape for i in range(30)]
    assert all(rows == columns >= 160 for rows, columns, _ in shapes)
    assert photos.fingerprint == open_source("photos", split="train").fingerprint
