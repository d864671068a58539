"""Words of a command line for the evaluation transform."""

from __future__ import annotations

import numpy as np
import pytest

from illama.exits import UsageError
from illama.preprocessing import TransformOptions
from illama.transforms import Transform, evaluation_transform


def test_words_become_numbers():
    options = TransformOptions.parse(mean="0.5", std="0.1,0.2,0.3", crop="0.9")
    assert options.given() == {"mean": (0.5, 0.5, 0.5), "std": (0.1, 0.2, 0.3), "crop": 0.9}
    assert TransformOptions.parse().given() == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"mean": "0.5,0.5"}, "--mean 0.5,0.5: gives 2 numbers"),
        ({"mean": "123.7,116.3,103.5"}, "divide by 255"),
        ({"std": "0"}, "--std 0"),
        ({"std": "a"}, "give three numbers"),
        ({"mean": "nan"}, "--mean nan"),
        ({"crop": "0"}, "--crop 0"),
        ({"crop": "1.2"}, "at most 1"),
        ({"crop": "centre"}, "none for the whole image"),
        ({"interpolation": "nearest"}, "bicubic or bilinear"),
    ],
)
def test_words_that_mean_nothing_are_refused(words, said):
    with pytest.raises(UsageError) as caught:
        TransformOptions.parse(**words)
    assert said in str(caught.value)


def test_no_crop_sees_the_corners_of_an_image_that_a_crop_cuts_off():
    image = np.zeros((64, 64, 3), np.uint8)
    image[0, 0] = 255
    own = evaluation_transform(64)
    whole = own.with_options(TransformOptions.parse(crop="none"))
    assert np.ptp(own(image).numpy()[0]) == 0
    assert np.ptp(whole(image).numpy()[0]) > 4
    assert whole.describe()["crop"] is None


def test_a_crop_ratio_sets_the_short_side():
    changed = evaluation_transform(32).with_options(TransformOptions.parse(crop="0.8"))
    assert (changed.describe()["short_side"], changed.resize) == (40, "short-side")


def test_what_a_transform_writes_it_reads():
    transform = Transform(image_size=8, resize="warp", mean=(0.5,) * 3, interpolation="bilinear")
    assert Transform.from_dict(transform.to_dict(), 8) == transform


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [0.1]},
        {"std": [0, 1, 1]},
        {"mean": [float("nan"), 0, 0]},
        {"crop_ratio": 2},
        {"resize": "x"},
        {"interpolation": "x"},
        {"unknown": 1},
    ],
)
def test_a_written_transform_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError, match=r"transform|mean and std"):
        Transform.from_dict({**evaluation_transform(8).to_dict(), **changes}, 8)
