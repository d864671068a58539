"""Segmentation: areas by hand, an independent loop, windows, and the command end to end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from illama.checkpoint.segmenter import save_segmenter
from illama.config import Config
from illama.observation import SegmentsSeen
from illama.upernet import Segmenter, SegmenterConfig
from illama_eval.results import Run
from illama_eval.studies.segmentation import Segmentation
from illama_eval.study import accumulate
from illama_eval.subjects.segmenter import (
    SegmenterSubject,
    normalize,
    scaled_size,
    starts,
    stride_of,
)

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
    assert rows["miou_slide",].low < rows["miou_slide",].value < rows["miou_slide",].high


@pytest.mark.parametrize(("length", "side"), [(512, 512), (600, 512), (853, 512), (2048, 512)])
def test_windows_cover_an_image_and_end_with_it(length, side):
    found = starts(length, side)
    assert found[0] == 0
    assert found[-1] == length - side
    assert all(0 < b - a <= stride_of(side) for a, b in pairwise(found))
    assert stride_of(512) == 341


def test_an_image_is_brought_to_the_short_side_of_the_window():
    assert scaled_size((400, 600), 512, 1.0) == (512, 768)
    assert scaled_size((400, 600), 512, 0.5) == (512, 768)  # never less than a window
    assert scaled_size((400, 600), 512, 1.5) == (768, 1152)
    assert min(scaled_size((100, 5000), 512, 1.0)) == 512


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    backbone = Config(image_size=16, patch_size=4, width=16, depth=4, heads=2, classes=1)
    built = Segmenter(SegmenterConfig(backbone=backbone, classes=150)).eval()
    return SegmenterSubject(name="small", segmenter=built)


@torch.no_grad()
def test_one_window_is_the_whole_image(subject):
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    whole, slide, _ = subject.observe(images, ())
    assert all(map(torch.equal, whole.predicted, slide.predicted))
    direct = subject.segmenter(normalize(images)).logits.argmax(1)
    assert all(map(torch.equal, whole.predicted, direct))


@torch.no_grad()
def test_overlapping_windows_are_averaged(subject):
    images = torch.randint(0, 256, (1, 3, 16, 20), dtype=torch.uint8)
    pixels = normalize(images)
    parts = [subject.segmenter(pixels[..., left : left + 16]).logits for left in (0, 4)]
    total = torch.zeros(1, 150, 16, 20)
    total[..., :16] += parts[0]
    total[..., 4:] += parts[1]
    total[..., 4:16] /= 2
    _, slide, _ = subject.observe(images, ())
    assert torch.equal(slide.predicted[0], total[0].argmax(0))


@torch.no_grad()
def test_a_flipped_image_is_segmented_flipped_at_several_scales(subject):
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    straight, flipped = (list(subject.observe(each, ()))[2] for each in (images, images.flip(3)))
    same = straight.predicted[0] == flipped.predicted[0].flip(1)
    assert same.float().mean() > 0.99  # sums are taken in another order


@pytest.fixture
def folder(tmp_path):
    """Write images of different sizes with masks, laid out like ADE20K."""
    for kind in ("images", "annotations"):
        (tmp_path / "ade" / kind / "validation").mkdir(parents=True)
    for number in range(3):
        mask = np.ones((18, 20 + 6 * number), np.uint8)
        mask[:, 10:] = 2
        place = tmp_path / "ade"
        pixels = np.repeat(mask[..., None] * 90, 3, axis=2)
        Image.fromarray(pixels).save(place / "images" / "validation" / f"{number}.png")
        Image.fromarray(mask).save(place / "annotations" / "validation" / f"{number}.png")
    return tmp_path / "ade"


def test_a_folder_like_ade20k_is_measured_in_three_ways(command, subject, folder, tmp_path):
    path = tmp_path / "small.safetensors"
    save_segmenter(subject.segmenter, path)
    Image.fromarray(np.full((18, 20), 200, np.uint8)).save(
        folder / "annotations" / "validation" / "0.png"
    )
    code, printed, error = command("segment", path, "--data", folder, "--out", tmp_path / "run")
    assert code == 4  # one mask is unreadable
    assert "label 200 is above 150" in error
    for name in ("mIoU, whole", "mIoU, slide", "mIoU, multiscale"):
        assert name in printed
    run = Run.load(tmp_path / "run")
    assert run.value("segmentation", "miou_slide").images == 2
    assert (tmp_path / "run" / "figures" / "segmentation_samples.png").exists()
    with np.load(tmp_path / "run" / "per_image.npz") as stored:
        assert stored["areas_slide"].shape == (1, 3, 3, 150)
        assert stored["areas_slide"].dtype == np.int64
        total = stored["areas_slide"][0].sum(0)
    union = total[1] + total[2] - total[0]
    expected = (total[0] / np.where(union, union, 1))[union > 0].mean()
    assert run.value("segmentation", "miou_slide").value == pytest.approx(expected, rel=1e-12)


def test_what_does_not_fit_is_refused(command, subject, golden_checkpoint, folder, tmp_path):
    path = tmp_path / "small.safetensors"
    save_segmenter(subject.segmenter, path)
    for words, said in (
        ((golden_checkpoint, "--data", folder), "holds no segmentation head"),
        ((path,), "no --data: segmentation needs images with masks"),
        ((path, "--data", "digits"), "segmentation needs masks, and this source has none"),
        ((path, "--data", "demo-shapes"), "has 11 classes of pixels, small 150"),
    ):
        code, _, error = command("segment", *words)
        assert code == 3
        assert said in error
