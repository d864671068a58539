"""Cue-conflict pictures: told by their names, and kept whole by everything done to a source."""

from __future__ import annotations

import numpy as np
import pytest

from illama.sources import open_source
from illama.sources.cue_conflict import attach_cues, read_name
from illama.sources.head import for_head
from illama.sources.source import SourceError, make_source


def folder(names, name="pictures"):
    classes = tuple(sorted({each.split("/")[0] for each in names}))
    labels = np.array([classes.index(each.split("/")[0]) for each in names], np.int64)
    return make_source(
        name=name,
        split="all",
        names=names,
        labels=labels,
        classes=classes,
        contents=names,
        read=lambda _: np.zeros((8, 8, 3), np.uint8),
    )


@pytest.mark.parametrize(
    ("stem", "cues"),
    [
        ("cat7-elephant2", ("cat", "elephant")),
        ("polar bear1-sports_car12", ("polar bear", "sports_car")),
        ("cat7", None),
        ("cat-elephant", None),
        ("7-2", None),
        ("cat7-elephant2-x", None),
        ("n01440764-10026", None),
    ],
)
def test_a_name_carries_a_shape_and_a_texture_or_nothing(stem, cues):
    assert read_name(stem) == cues


def test_folders_by_shape_are_recognised_and_numbered_over_all_categories():
    source = attach_cues(folder(["cat/cat1-dog1", "cat/cat1-boat2", "dog/dog3-dog1"]))
    assert source.categories == ("boat", "cat", "dog")
    assert source.cues.tolist() == [[1, 2], [1, 0], [2, 2]]
    assert source.lacks({"cues", "labels"}) == ""


def test_other_folders_stay_as_they_are():
    names = ["cat/a", "cat/b", "cat/cat1-dog1", "dog/dog1"]
    source = attach_cues(folder(names))
    assert source.cues is None
    assert source.lacks({"cues"}) == "cues"


@pytest.mark.parametrize("odd", ["cat/kitten", "cat/dog1-cat1"])
def test_a_name_that_does_not_fit_its_folder_is_refused(odd):
    names = ["cat/cat1-dog1", "dog/dog1-cat1", odd]
    with pytest.raises(SourceError, match=f"1 of 3 file names have no texture.*{odd}"):
        attach_cues(folder(names))


def test_a_limit_keeps_each_image_with_its_cues():
    whole = open_source("demo", split="cue-conflict")
    part = whole.limit(50, 3)
    cues = dict(zip(whole.ids, whole.cues.tolist(), strict=True))
    assert [cues[each] for each in part.ids] == part.cues.tolist()
    assert part.categories == whole.categories


def test_a_head_of_other_classes_gets_the_cues_without_labels():
    source = open_source("demo", split="cue-conflict")
    assert for_head(source, 10).labels is source.labels
    other = for_head(source, 1000)
    assert other.labels is None
    assert other.cues is source.cues
    assert other.fingerprint == source.fingerprint


def test_no_picture_of_the_demo_has_agreeing_cues():
    source = open_source("demo", split="cue-conflict")
    assert (source.cues[:, 0] != source.cues[:, 1]).all()
    assert (source.cues[:, 0] == source.labels).all()
    assert open_source("demo", split="test").cues is None


@pytest.mark.data
def test_the_published_pictures_are_recognised(shared):
    source = open_source(str(shared / "data" / "cue_conflict" / "images"))
    assert len(source) == 1280
    assert len(source.categories) == 16
    assert int((source.cues[:, 0] == source.cues[:, 1]).sum()) == 80
    assert np.bincount(source.cues[:, 1]).tolist() == [80] * 16
