from __future__ import annotations

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
