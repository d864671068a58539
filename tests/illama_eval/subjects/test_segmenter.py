from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from illama_eval.subjects.segmenter import normalize, scaled_size, starts, stride_of


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


@torch.no_grad()
def test_one_window_is_the_whole_image(segmenter_subject):
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    whole, slide, _ = segmenter_subject.observe(images, ())
    assert all(map(torch.equal, whole.predicted, slide.predicted))
    direct = segmenter_subject.segmenter(normalize(images)).logits.argmax(1)
    assert all(map(torch.equal, whole.predicted, direct))


@torch.no_grad()
def test_overlapping_windows_are_averaged(segmenter_subject):
    images = torch.randint(0, 256, (1, 3, 16, 20), dtype=torch.uint8)
    pixels = normalize(images)
    parts = [segmenter_subject.segmenter(pixels[..., left : left + 16]).logits for left in (0, 4)]
    total = torch.zeros(1, 150, 16, 20)
    total[..., :16] += parts[0]
    total[..., 4:] += parts[1]
    total[..., 4:16] /= 2
    _, slide, _ = segmenter_subject.observe(images, ())
    assert torch.equal(slide.predicted[0], total[0].argmax(0))


@torch.no_grad()
def test_a_flipped_image_is_segmented_flipped_at_several_scales(segmenter_subject):
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    straight, flipped = (
        list(segmenter_subject.observe(each, ()))[2] for each in (images, images.flip(3))
    )
    same = straight.predicted[0] == flipped.predicted[0].flip(1)
    assert same.float().mean() > 0.99  # sums are taken in another order
