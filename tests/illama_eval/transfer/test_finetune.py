from __future__ import annotations

import pytest
import torch

from illama import load
from illama.config import Config
from illama.model import Model
from illama.training.recipe import RecipeError
from illama.transforms import evaluation_transform
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import SubjectError
from illama_eval.transfer.finetune import count_broken, make_recipe, result_of_training, write_start
from illama_eval.transfer.splits import open_split


@pytest.mark.parametrize("masking", ["multiplicative", "additive"])
def test_the_presets_follow_the_checkpoint(tmp_path, masking):
    torch.manual_seed(0)
    step = "soft-mask" if masking == "multiplicative" else "rope-and-learned"
    model = Model(Config.at(step, "nano", classes=7))
    base = ModelSubject(name="nano", model=model, transform=evaluation_transform(32))
    pair = open_split("digits")
    paper = make_recipe(base, tmp_path, pair, "paper", (), 3)
    assert (paper.size, paper.step, paper.image_size, paper.classes) == ("nano", step, 32, 10)
    assert (paper.lr, paper.epochs, paper.batch_size, paper.mixup) == (2e-3, 300, 1024, 0.8)
    assert (paper.warmup_epochs, paper.cutoff_soft, paper.seed) == (50, 25, 3)
    assert paper.soft_mask == (1.0 if masking == "multiplicative" else 0.0)
    quick = make_recipe(base, tmp_path, pair, "quick", ("epochs=5",), 0)
    assert (quick.epochs, quick.batch_size, quick.cutoff_soft) == (5, 128, 0)
    write_start(base, tmp_path / "start.safetensors", 10, 0)
    start = load(tmp_path / "start.safetensors")
    assert start.config.classes == 10
    assert torch.equal(start.blocks[0].attention.qkv.weight, model.blocks[0].attention.qkv.weight)


def test_a_size_of_its_own_is_not_fine_tuned(tmp_path):
    model = Model(Config(image_size=32, patch_size=8, width=24, depth=2, heads=2, classes=3))
    base = ModelSubject(name="own", model=model, transform=evaluation_transform(32))
    with pytest.raises(SubjectError, match="none of the sizes tiny, small"):
        make_recipe(base, tmp_path, open_split("digits"), "quick", (), 0)


@pytest.mark.parametrize(
    "change", ["start=other.pth", "classes=3", "data=digits", "task=segmentation", "size=tiny"]
)
def test_what_the_checkpoint_and_the_images_decide_is_not_set(tmp_path, change):
    model = Model(Config.at("soft-mask", "nano", classes=7))
    base = ModelSubject(name="nano", model=model, transform=evaluation_transform(32))
    with pytest.raises(RecipeError, match=f"follows from .*; leave {change} out"):
        make_recipe(base, tmp_path, open_split("digits"), "quick", (change,), 0)


def test_unreadable_training_images_are_counted(tmp_path):
    pair = open_split("digits")
    train = pair.train
    lines = [f"{train.split}: {one}: cut: short" for one in train.ids[:2]]
    lines.append(f"{pair.test.split}: {pair.test.ids[0]}: cut short")
    assert count_broken(tmp_path, train) == 0
    (tmp_path / "broken.txt").write_text("\n".join(lines) + "\n")
    assert count_broken(tmp_path, train) == 2
    images = result_of_training(pair, [{"test_acc1_at_0": 50.0}], broken=2).rows[0]
    assert images.value == len(train) - 2
    assert images.reason == "2 unreadable ones left out"
