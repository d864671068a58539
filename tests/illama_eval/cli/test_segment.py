from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from illama.checkpoint.segmenter import save_segmenter
from illama_eval.results import Run
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT


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


def test_a_folder_like_ade20k_is_measured_in_three_ways(
    command, segmenter_subject, folder, tmp_path
):
    path = tmp_path / "small.safetensors"
    save_segmenter(segmenter_subject.segmenter, path)
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
    assert (tmp_path / "run" / "figures" / "segmentation_samples.svg").exists()
    with np.load(tmp_path / "run" / "per_image.npz") as stored:
        assert stored["areas_slide"].shape == (1, 3, 3, 150)
        assert stored["areas_slide"].dtype == np.int64
        total = stored["areas_slide"][0].sum(0)
    union = total[1] + total[2] - total[0]
    expected = (total[0] / np.where(union, union, 1))[union > 0].mean()
    assert run.value("segmentation", "miou_slide").value == pytest.approx(expected, rel=1e-12)


def test_what_does_not_fit_is_refused(
    command, segmenter_subject, golden_checkpoint, folder, tmp_path
):
    path = tmp_path / "small.safetensors"
    save_segmenter(segmenter_subject.segmenter, path)
    for words, said in (
        ((golden_checkpoint, "--data", folder), "has no segmentation head"),
        ((path,), "no --data: segmentation needs images with masks"),
        ((path, "--data", "digits"), "segmentation needs masks, which this source lacks"),
        ((path, "--data", "demo-shapes"), "has 11 classes of pixels, small 150"),
    ):
        code, _, error = command("segment", *words)
        assert code == 3
        assert said in error


def test_collapse_takes_the_background_from_the_masks_of_a_folder(
    command, undrawn, folder, tmp_path
):
    words = ("collapse", DEMO_CHECKPOINT, "--data", folder, "--out", tmp_path / "run")
    code, _, error = command(*words, "--background", "1,none")
    assert code == 0, error
    run = Run.load(tmp_path / "run")
    share = run.value("collapse", "background_patches").value
    assert share == pytest.approx((4 / 8 + 3 / 8 + 2.5 / 8) / 3, abs=0.05)  # of warped images
    assert run.header["identity"]["source"]["background"] == [0, 255]
    code, _, error = command(*words, "--background", "sky")
    assert code == 3
    assert "no class 'sky' of pixels; there are 1 ... 150, and none for pixels" in error
