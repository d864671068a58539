"""Runs on images that come in groups: intervals by groups, and no interval that needs others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from illama.sources.groups import with_groups
from illama_eval.compare.comparison import compare_paths
from illama_eval.results import ResultError, Row, Run
from illama_eval.run.evaluate import evaluate
from illama_eval.run.finalize import NOT_INDEPENDENT, NOT_TESTED, with_group_interval
from illama_eval.statistics import student_interval
from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.calibration import Calibration
from illama_eval.study import Metric
from illama_eval.subjects.predictions import open_predictions

IMAGES, VIDEOS = 400, 40


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the runs of one model over frames, as independent images and as 40 videos."""
    folder = tmp_path_factory.mktemp("frames")
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, IMAGES)
    video = np.arange(IMAGES) * VIDEOS // IMAGES
    logits = random.normal(size=(IMAGES, 3)) / 4 + random.normal(size=(VIDEOS, 3))[video]
    logits[np.arange(IMAGES), labels] += 1
    np.savez(folder / "saved.npz", logits=logits, labels=labels)
    saved, source = open_predictions(folder / "saved.npz")
    grouped = with_groups(source, {"groups": [f"video {number}" for number in video]})
    for name, images in (("images", source), ("videos", grouped)):
        evaluate(saved, images, [Accuracy(), Calibration()], folder / name)
    return folder / "images", folder / "videos"


def test_intervals_by_groups_are_wider_and_the_values_are_the_same(measured):
    images, videos = map(Run.load, measured)
    for row in videos.rows:
        if (
            not row.at
            and "scaled" not in row.metric
            and row.metric not in {"temperature", "calibrated_p"}
        ):  # halves do not divide a group
            alone = images.value(row.study, row.metric)
            assert row.value == pytest.approx(alone.value)
    for study, metric in (("accuracy", "top1"), ("accuracy", "nll"), ("calibration", "brier")):
        width = [
            each.value(study, metric).high - each.value(study, metric).low
            for each in (images, videos)
        ]
        assert width[1] > 1.3 * width[0]


def test_no_interval_assumes_independent_images(measured):
    videos = Run.load(measured[1])
    top1 = videos.value("accuracy", "top1")
    found = student_interval(top1.value, top1.replicates, VIDEOS, skewed=False)
    assert (top1.low, top1.high) == found
    bins = [row for row in videos.rows if row.metric == "bin_accuracy"]
    assert {row.low for row in bins} == {None}
    assert NOT_INDEPENDENT in {row.reason for row in bins}


def test_no_test_assumes_independent_images(measured):
    images, videos = map(Run.load, measured)
    assert images.value("calibration", "calibrated_p").value is not None
    p = videos.value("calibration", "calibrated_p")
    assert (p.value, p.reason) == (None, NOT_TESTED)
    (verdict,) = [each for each in videos.verdicts if each.name == "calibration"]
    assert (verdict.verdict, verdict.reason) == ("not tested for calibration", NOT_TESTED)


def test_the_header_names_the_groups_and_only_equal_ones_compare(measured):
    header = Run.load(measured[1]).header
    assert header["source"]["groups"] == {"groups": VIDEOS}
    assert header["identity"]["replicate_scheme"].endswith("groups: 40 by groups")
    with pytest.raises(ResultError, match=r"not comparable: source\.groups_sha256 is not given"):
        compare_paths(*map(str, measured))
    (same,) = compare_paths(str(measured[1]), str(measured[1]))
    assert same.flips.test is None
    assert {change.groups for change in same.changes} == {VIDEOS}


def test_where_none_is_known_by_groups_there_is_no_interval():
    given = Row(metric="x", value=0.5, low=0.4, high=0.6, images=9)
    counted = with_group_interval(given, Metric(), 4)
    assert (counted.low, counted.high, counted.reason) == (None, None, NOT_INDEPENDENT)
    spread = msgspec.structs.replace(given, replicates=np.linspace(0.45, 0.55, 200))
    binned = with_group_interval(spread, Metric(interval="basic"), 4)
    assert (binned.low, binned.replicates is None) == (None, False)
    ranked = with_group_interval(spread, Metric(unit="index", interval="jackknife"), 4)
    assert (ranked.low, ranked.replicates, ranked.reason) == (None, None, NOT_INDEPENDENT)
    found = with_group_interval(spread, Metric(interval="wilson"), 4)
    assert (found.low, found.high) == student_interval(0.5, spread.replicates, 4, skewed=False)
