"""Segmentation: areas by hand, an independent loop, windows, and the command end to end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from illama.observation import SegmentsSeen
from illama_eval.statistics import wilson_interval
from illama_eval.studies.segmentation import Segmentation
from illama_eval.study import accumulate

NAMES = ("a", "b", "c")


@pytest.fixture
def measure(make_batch):
    """Return a function from predicted and true maps to rows by metric and place."""

    def rows(predicted, masks, names=NAMES):
        batch = replace(
            make_batch(torch.zeros(len(masks), dtype=torch.int64)),
            masks=tuple(torch.tensor(each) for each in masks),
        )
        maps = tuple(torch.tensor(each) for each in predicted)
        total, study = {}, Segmentation(names=names)
        accumulate(total, study.measure(SegmentsSeen(mode="slide", predicted=maps, batch=batch)))
        found = study.summarize(total).rows
        return {(row.metric, *row.at.values()): row for row in found}

    return rows


def test_areas_of_all_images_are_added_before_anything_is_divided(measure):
    rows = measure([[[0, 0, 1, 1]], [[0, 0]]], [[[0, 1, 1, 255]], [[0, 0]]])
    assert rows["iou", "slide", "a"].value == pytest.approx(3 / 4)
    assert rows["iou", "slide", "b"].value == pytest.approx(1 / 2)
    assert rows["miou_slide",].value == pytest.approx((3 / 4 + 1 / 2) / 2)  # c occurs nowhere
    assert rows["iou", "slide", "c"].value is None
    assert "no pixel has this class" in rows["iou", "slide", "c"].reason
    assert rows["pixel_accuracy_slide",].value == pytest.approx(4 / 5)
    assert rows["class_accuracy_slide",].value == pytest.approx((1 + 1 / 2) / 2)
    assert rows["pixels", "a"].value == pytest.approx(3 / 5)


def test_a_class_that_no_image_shows_may_still_have_pixels(measure):
    row = measure([[[0, 0]]] * 30, [[[0, 1]]] * 30)["pixels", "c"]
    assert (row.value, row.low) == (0, 0)
    assert row.high == pytest.approx(wilson_interval(0, 30)[1])


def test_a_class_that_is_found_but_not_there_counts_as_nought(measure):
    rows = measure([[[0, 2]]], [[[0, 0]]])
    assert rows["iou", "slide", "c"].value == 0
    assert rows["miou_slide",].value == pytest.approx((1 / 2 + 0) / 2)
    assert rows["class_accuracy_slide",].value == pytest.approx(1 / 2)  # of a alone


def test_the_numbers_are_those_of_a_plain_loop(measure):
    random = np.random.default_rng(3)
    masks = [random.integers(0, 3, (5 + k, 7)) for k in range(6)]
    for mask in masks:
        mask[random.random(mask.shape) < 0.3] = 255
    predicted = [random.integers(0, 3, mask.shape) for mask in masks]
    rows = measure(predicted, masks)
    ious = []
    for klass in range(3):
        both = union = 0
        for guess, truth in zip(predicted, masks, strict=True):
            for mine, true in zip(guess.ravel(), truth.ravel(), strict=True):
                if true != 255:
                    both += mine == klass and true == klass
                    union += klass in (mine, true)
        ious.append(both / union)
    assert rows["miou_slide",].value == pytest.approx(np.mean(ious), rel=1e-12)
    assert rows["miou_slide",].low is None
    assert "fewer than 500 images" in rows["miou_slide",].reason
