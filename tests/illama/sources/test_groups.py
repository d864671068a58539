"""Groups of images that belong together: from a CSV's column, and from names of cue-conflict."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from illama.sources import SourceError, open_source
from illama.sources.cue_conflict import group_cues
from illama.sources.source import make_source


@pytest.fixture
def frames(tmp_path):
    """Return a function that labels six pictures by a CSV with these groups, and opens them."""
    for number in range(6):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")

    def open_frames(groups, column="groups"):
        lines = [f"{5 - n}.png,{n % 2},{group}" for n, group in enumerate(groups)]
        table = tmp_path / "labels.csv"
        table.write_text("\n".join([f"file,label,{column}", *lines]), encoding="utf-8")
        return open_source(str(tmp_path), labels=table)

    return open_frames


def test_a_csv_names_the_group_of_each_image(frames):
    source = frames("aabbcc")
    of_image = dict(zip(source.ids, source.groups["groups"], strict=True))
    assert of_image == {"5": "a", "4": "a", "3": "b", "2": "b", "1": "c", "0": "c"}


@pytest.mark.parametrize("column", ["group", "Groups", " group "])
def test_groups_are_found_by_each_name_of_their_column(frames, column):
    assert frames("aabbcc", column=column).groups == frames("aabbcc").groups


def test_another_column_names_no_groups_and_two_are_refused(frames):
    assert frames("aabbcc", column="notes").groups is None
    with pytest.raises(SourceError, match="group and groups both name groups"):
        frames([f"{n // 2},x" for n in range(6)], column="group,groups")


def test_a_part_of_the_images_keeps_its_groups(frames):
    source = frames("aabbcc").keep(np.array([4, 0]))
    assert source.groups == {"groups": ("c", "a")}


def test_images_that_are_each_a_group_of_their_own_are_independent(frames):
    assert frames("abcdef").groups is None


def test_a_missing_group_and_a_single_one_are_refused(frames):
    with pytest.raises(SourceError, match="2 rows have no group"):
        frames(["a", "", "b", " ", "b", "a"])
    with pytest.raises(SourceError, match="all 6 images are of the group 'a'"):
        frames("aaaaaa")


def named(*names):
    return make_source(
        name="cues",
        split="all",
        names=names,
        labels=None,
        contents=list(names),
        read=lambda _: np.zeros((1, 1, 3), np.uint8),
    )


def test_pictures_of_one_shape_and_those_of_one_texture_are_groups():
    source = group_cues(named("cat/cat7-dog2", "cat/cat7-car1", "dog/dog3-car1"))
    assert source.groups == {"shape": ("cat7", "cat7", "dog3"), "texture": ("dog2", "car1", "car1")}
    assert group_cues(named("cat/cat7-dog2", "cat/cat7-car1", "other")).groups is None


def test_a_way_in_which_every_picture_is_its_own_group_is_left_out():
    assert group_cues(named("cat1-dog1", "cat2-dog1", "cat3-dog2")).groups == {
        "texture": ("dog1", "dog1", "dog2")
    }
