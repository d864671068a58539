"""UperNet on an iLLaMA backbone: the paper's sizes, what reaches the head, files, transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from illama.checkpoint.save import save_checkpoint
from illama.checkpoint.segmenter import read_segmenter, save_segmenter
from illama.cli import main
from illama.config import SIZES, Config
from illama.segmentation_metrics import IGNORED, count_areas
from illama.sources import open_source
from illama.training.loop import fit
from illama.training.recipe import RecipeError, find_recipe
from illama.training.schedules import polynomial
from illama.training.segmentation import (
    MaskedAugmentation,
    Segmentation,
    distort,
    draw_crop,
    pixel_loss,
    scaled_size,
)
from illama.training.task import TrainingError
from illama.training.trainer import parameter_groups
from illama.transforms import evaluation_transform

TINY = Config(image_size=16, patch_size=4, width=16, depth=4, heads=2, classes=1)


ADE = find_recipe("tiny-ade20k")


def test_pixels_without_a_class_count_in_no_loss_and_no_area():
    labels = torch.tensor([[[0, 1], [IGNORED, 1]]])
    logits = torch.zeros(1, 2, 2, 2)
    assert pixel_loss(logits, labels).item() == pytest.approx(np.log(2))
    assert pixel_loss(logits, torch.full((1, 2, 2), IGNORED)).item() == 0
    counted = count_areas(torch.tensor([[[0, 0], [1, 1]]]), labels, 2)
    assert counted.tolist() == [[[1, 1], [2, 1], [1, 2]]]  # intersection, prediction, label


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(8, 60), st.integers(8, 60))
def test_masks_follow_their_images(seed, width, height):
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 2, (-(-height // 8), -(-width // 8)))
    mask = np.kron(blocks, np.ones((8, 8), np.int64))[:height, :width].astype(np.uint8)
    image = np.repeat(mask[..., None] * 255, 3, axis=2).astype(np.uint8)
    recipe = ADE.override(["image_size=16", "photometric=false", "short_side=none", "scales=1"])
    vary = MaskedAugmentation(recipe, evaluation_transform(16))
    pixels, truth = vary(image, mask, random)
    assert pixels.shape == (3, 16, 16)
    assert truth.shape == (16, 16)
    light = pixels[0].numpy() > 0
    assert (light == (truth == 1))[truth != IGNORED].all()
    assert (truth == IGNORED).sum() == 256 - min(16, width) * min(16, height)


def test_scales_keep_the_aspect_and_the_long_side_in_bounds():
    random = np.random.default_rng(0)
    whole = ADE.override(["scales=1"])
    assert scaled_size(640, 480, whole, random) == (683, 512)
    assert scaled_size(4000, 400, whole, random) == (2048, 205)  # the long side is the limit
    drawn = [scaled_size(1024, 512, ADE, random) for _ in range(200)]
    assert min(height for _, height in drawn) < 280
    assert max(height for _, height in drawn) > 1000
    assert all(abs(width - 2 * height) <= 2 for width, height in drawn)


def test_a_crop_is_not_filled_by_one_class_where_that_can_be():
    mask = np.zeros((20, 100), np.uint8)
    mask[:, :5] = 1
    lucky = sum(mask[draw_crop(mask, 10, np.random.default_rng(seed))].any() for seed in range(100))
    assert lucky > 25  # a single draw meets the edge once in nine
    assert draw_crop(mask[:4, :4], 10, np.random.default_rng(0)) == (slice(0, 10), slice(0, 10))


def test_colours_stay_colours():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (8, 8, 3), np.uint8)
    varied = [distort(image, random) for _ in range(50)]
    assert all(each.dtype == np.uint8 and each.shape == image.shape for each in varied)
    assert sum(not np.array_equal(each, image) for each in varied) > 40


def test_the_rate_falls_in_a_straight_line_after_its_warm_up():
    def rate(step):
        return polynomial(step, peak=2.0, warmup_steps=10, steps=100)

    assert rate(0) == pytest.approx(2e-6)
    assert rate(5) == pytest.approx(2 * 0.95 * (1 - 0.5 * (1 - 1e-6)))
    assert rate(10) == pytest.approx(1.8)
    assert rate(99) == pytest.approx(0.02)


def test_deeper_layers_learn_faster(segmenter):
    groups = parameter_groups(segmenter, 0.1, 0.5)
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    decays = {id(p): group["decays"] for group in groups for p in group["params"]}
    named = dict(segmenter.named_parameters())
    assert scale[id(named["backbone.class_token"])] == 0.5**5
    assert scale[id(named["backbone.blocks.0.attention.qkv.weight"])] == 0.5**4
    assert scale[id(named["backbone.blocks.3.attention.qkv.weight"])] == 0.5
    assert scale[id(named["decoder.classify.weight"])] == 1
    assert not decays[id(named["backbone.position_embedding"])]
    assert decays[id(named["decoder.classify.weight"])]
    assert sum(len(group["params"]) for group in groups) == len(named)


@pytest.fixture(autouse=True)
def deep_enough(monkeypatch):
    """Let the micro size have the four blocks that a decoder looks at."""
    size = {"width": 16, "depth": 4, "heads": 2, "patch_size": 4}
    monkeypatch.setitem(SIZES, "micro", size)


def small(**changes):
    given = {
        "image_size": 16,
        "classes": 150,
        "epochs": 2,
        "batch_size": 2,
        "size": "micro",
        "micro_batch": "none",
        "start": "none",
        "short_side": 20,
    }
    given |= changes
    return ADE.override([f"{name}={value}" for name, value in given.items()])


def test_training_goes_on_to_the_same_weights_from_any_step(write_ade, tmp_path):
    root = write_ade(tmp_path / "ade")
    train, test = (open_source(str(root), split=split) for split in ("train", "test"))
    whole = fit(small(), train, test, tmp_path / "whole")
    assert {"test_miou", "test_acc1", "test_loss"} <= whole.log[-1].keys()
    again = tmp_path / "again"
    fit(small(), train, test, again)
    for name in ("again.safetensors", "again.pth", "checkpoint-4.pth"):
        (again / name).unlink()
    resumed = fit(small(), train, test, again)
    ours, theirs = (each.model.state_dict() for each in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert read_segmenter(resumed.checkpoint).args["task"] == "segmentation"


def test_a_segmenter_starts_from_a_classifiers_blocks(tmp_path):
    from illama.model import Model

    torch.manual_seed(1)
    model = Model(Config.at("soft-mask", "nano"))
    save_checkpoint(model, tmp_path / "start.safetensors")
    start = tmp_path / "start.safetensors"
    built = Segmentation().build(small(size="nano", image_size=32, start=start))
    own, theirs = built.backbone.state_dict(), model.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


def test_what_cannot_be_taught_is_refused(write_ade, tmp_path):
    task, root = Segmentation(), write_ade(tmp_path)
    with pytest.raises(TrainingError, match="has no masks"):
        task.check(open_source(str(root)), open_source("digits"), small(classes=150))
    with pytest.raises(TrainingError, match=r"has 150 pixel classes.*set classes=150"):
        task.check(open_source(str(root)), open_source(str(root)), small(classes=3))
    with pytest.raises(RecipeError, match="supports no average and no mixed images"):
        task.build(small(mixup=0.5))


def test_the_loss_is_that_of_both_heads(segmenter):
    labels = torch.randint(0, 5, (2, 16, 16))
    outputs = segmenter.train()(torch.randn(2, 3, 16, 16))
    scored = Segmentation().score(outputs, labels, None, small())
    fine = functional.interpolate(outputs.auxiliary, (16, 16), mode="bilinear")
    expected = functional.cross_entropy(outputs.logits, labels) + 0.4 * functional.cross_entropy(
        fine, labels
    )
    torch.testing.assert_close(scored.loss, expected)
    share = (outputs.logits.argmax(1) == labels).float().mean((1, 2)).sum()
    assert float(scored.hits) == pytest.approx(float(share))


def test_inspecting_says_what_a_segmenter_is(segmenter, tmp_path, monkeypatch, capsys):
    path = tmp_path / "file.safetensors"
    save_segmenter(segmenter, path, names=("a",))
    for words in (["--json"], []):
        monkeypatch.setattr("sys.argv", ["illama", "inspect", str(path), *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        assert "illama segmenter" in capsys.readouterr().out
