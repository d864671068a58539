"""Calibration images: never those that are reported on, and enough of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from illama.sources import open_source
from illama.sources.source import Source
from illama_eval.quantize.calibration import calibrate_on
from illama_eval.subjects.subject import SubjectError

SIDE = 32


def make_source(tmp_path, name: str, images: int, first: int = 0) -> Source:
    random = np.random.default_rng(first)
    path = tmp_path / f"{name}.npz"
    np.savez(
        path,
        images=random.integers(0, 256, (images, SIDE, SIDE, 3), dtype=np.uint8),
        ids=np.array([f"{i + first:04d}" for i in range(images)]),
    )
    return open_source(str(path))


def test_calibration_images_are_never_the_reported_ones(tmp_path, subject):
    reported = make_source(tmp_path, "test", 20)
    with pytest.raises(SubjectError, match="10 of 10 images are among the reported ones"):
        calibrate_on(reported, reported, subject, 10)
    again = replace(reported, ids=tuple(f"other/{i}" for i in range(20)))
    with pytest.raises(SubjectError, match="are among the reported ones"):
        calibrate_on(again, reported, subject, 10)
    apart = replace(make_source(tmp_path, "train", 20, first=100), ids=reported.ids)
    found = calibrate_on(apart, reported, subject, 10)
    assert found.images.shape == (10, 3, SIDE, SIDE)
    assert found.record["images"] == 10
    assert len(found.record["ids_sha256"]) == 64


@pytest.mark.parametrize("images", [4, 21])
def test_too_few_calibration_images_are_refused(tmp_path, subject, images):
    source = make_source(tmp_path, "train", 20)
    with pytest.raises(SubjectError, match="train-limit"):
        calibrate_on(source, None, subject, images)
