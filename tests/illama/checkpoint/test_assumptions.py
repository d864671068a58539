"""What files do not say: refused where published models differ, listed where something decides."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import pytest
import torch

from illama.checkpoint import released
from illama.checkpoint.heads import SCALED_HEADS, VIT_HEADS, published_heads
from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.files import CheckpointError
from illama.preprocessing import TransformOptions
from illama.transforms import IMAGENET_MEAN, IMAGENET_STD, evaluation_transform

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)
VIT = Config.at("vit", "nano", width=24, heads=2, depth=2)
HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def vit(fresh, official, tmp_path):
    """Return a function that writes a ViT of timm's names with the arguments of a training."""

    def write(**args):
        path = tmp_path / "vit.pth"
        torch.save({"model": official(fresh(VIT)), "args": Namespace(**args)}, path)
        return path

    return write


def texts(seen):
    return [str(each) for each in seen.assumptions]


def test_heads_of_a_small_vit_are_refused_with_both_published_numbers():
    with pytest.raises(CheckpointError) as caught:
        published_heads("ViT", 384, 12)
    for words in ("6 (ViT-S", "12 (MoCo v3", "--heads 6 or --heads 12"):
        assert words in str(caught.value)


def test_heads_of_no_published_model_are_refused_with_what_is_possible():
    with pytest.raises(CheckpointError, match=r"2 of 48 channels, 3 of 32 channels, .* 6 of 16"):
        published_heads("ViT", 96, 6)


@pytest.mark.parametrize(
    ("family", "width", "depth", "heads"),
    [
        ("ViT", 192, 12, 3),
        ("ViT", 768, 12, 12),
        ("ViT", 1024, 24, 16),
        ("ViT with layer scale", 384, 12, 6),
        ("iLLaMA", 384, 12, 6),
        ("iLLaMA", 96, 3, 3),
    ],
)
def test_heads_that_all_published_models_share_are_taken(family, width, depth, heads):
    assert published_heads(family, width, depth)[0] == heads


@pytest.mark.filterwarnings("ignore")  # of timm itself
def test_timm_knows_no_plain_vit_with_other_heads_than_the_tables(reference):
    timm = reference("timm")
    for name in ("vit_tiny", "vit_small", "vit_base", "deit_tiny", "deit_base", "deit3_small"):
        with torch.device("meta"):
            model = timm.create_model(f"{name}_patch16_224")
        table = SCALED_HEADS if name.startswith("deit3") else VIT_HEADS
        block = model.blocks[0].attn
        assert block.num_heads in table[model.embed_dim, len(model.blocks)]


def test_a_bare_vit_of_no_published_shape_is_refused_until_told(vit):
    with pytest.raises(CheckpointError, match="pass --heads"):
        read_checkpoint(vit())
    assert read_checkpoint(vit(), heads=3).model.config.heads == 3
    seen = read_checkpoint(vit(num_heads=4))
    assert seen.model.config.heads == 4
    assert not any(each.what == "heads" for each in seen.assumptions)


def test_a_vit_lists_its_pooling_activation_and_norms(vit):
    seen = read_checkpoint(vit(), heads=2)
    assert [each.what for each in seen.assumptions] == [
        "pooling",
        "activation",
        "norms",
        "normalization",
        "resizing",
    ]
    assert all("--" in text for text in texts(seen))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"global_pool": "avg"}, "global_pool='avg'"),
        ({"gp": "max"}, "gp='max'"),
        ({"model_kwargs": {"act_layer": "relu"}}, "act_layer='relu'"),
        ({"hidden_act": "quick_gelu"}, "quick_gelu"),
        ({"pre_norm": True}, "before the first block"),
        ({"norm_eps": 1e-5}, "epsilon"),
    ],
)
def test_a_vit_whose_arguments_contradict_is_refused(vit, args, words):
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(vit(**args), heads=2)


@pytest.mark.parametrize(
    "args", [{"global_pool": "token"}, {"gp": None}, {"act_layer": "gelu"}, {"norm_eps": 1e-6}]
)
def test_arguments_that_agree_are_no_reason_to_refuse(vit, args):
    plain = read_checkpoint(vit(), heads=2)
    stated = read_checkpoint(vit(**args), heads=2)
    assert (stated.sha256, stated.model.config) == (plain.sha256, plain.model.config)


def test_the_released_form_says_heads_by_width_and_what_changes_them(golden_checkpoint):
    seen = read_checkpoint(golden_checkpoint)
    assert "3 heads, by width 96; --heads changes it" in texts(seen)
    assert {each.what for each in seen.assumptions} == {
        "heads",
        "masking",
        "normalization",
        "resizing",
    }


def test_a_published_file_assumes_nothing(fresh, write, tmp_path, monkeypatch):
    path = write(tmp_path / "a.pth", fresh(SMALL))
    sha256 = read_checkpoint(path).file_sha256
    known = released.Released(name="known", sha256=sha256, megabytes=1, top1=0.5)
    monkeypatch.setattr(released, "RELEASED", (known,))
    assert read_checkpoint(path).assumptions == ()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_stored_transform_comes_back_and_nothing_is_assumed(fresh, tmp_path, name):
    transform = replace(evaluation_transform(16), mean=HALF, std=HALF, interpolation="bilinear")
    save_checkpoint(fresh(SMALL), tmp_path / name, transform=transform)
    seen = read_checkpoint(tmp_path / name)
    assert seen.transform == transform
    assert seen.assumptions == ()
    larger = read_checkpoint(tmp_path / name, image_size=32).transform
    assert larger == replace(transform, image_size=32)


def test_our_own_file_without_a_transform_assumes_the_one_of_its_size(fresh, tmp_path):
    save_checkpoint(fresh(SMALL), tmp_path / "a.safetensors")
    seen = read_checkpoint(tmp_path / "a.safetensors")
    assert seen.transform == evaluation_transform(16)
    assert [each.what for each in seen.assumptions] == ["normalization", "resizing"]


@pytest.mark.parametrize(
    ("args", "mean", "std"),
    [
        ({"imagenet_default_mean_and_std": False}, HALF, HALF),
        ({"imagenet_default_mean_and_std": True}, IMAGENET_MEAN, IMAGENET_STD),
        ({"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}, (0.1, 0.2, 0.3), (1, 1, 1)),
        ({"mean": "odd"}, IMAGENET_MEAN, IMAGENET_STD),
    ],
)
def test_the_arguments_of_a_training_say_how_images_are_normalised(vit, args, mean, std):
    seen = read_checkpoint(vit(**args), heads=2)
    assert (seen.transform.mean, seen.transform.std) == (mean, std)
    assumed = any(each.what == "normalization" for each in seen.assumptions)
    assert assumed == (args == {"mean": "odd"})


def test_options_change_the_transform_and_what_they_change_is_no_assumption(vit):
    options = TransformOptions.parse(mean="0.5", std="0.5", crop="none", interpolation="bilinear")
    seen = read_checkpoint(vit(), heads=2, transform=options)
    assert (seen.transform.mean, seen.transform.resize) == (HALF, "direct")
    assert {each.what for each in seen.assumptions} == {"pooling", "activation", "norms"}
    assert seen.overrides == ()


def test_what_an_option_overrides_is_listed(fresh, tmp_path):
    transform = evaluation_transform(16)
    save_checkpoint(fresh(SMALL), tmp_path / "a.pth", soft_mask=0.0, transform=transform)
    options = TransformOptions.parse(mean="0.5")
    seen = read_checkpoint(tmp_path / "a.pth", heads=3, soft_mask=1, transform=options)
    assert [str(each) for each in seen.overrides] == [
        "heads 3 by option, not its own 2",
        "soft mask 1 by option, not its own 0",
        "mean 0.5 0.5 0.5 by option, not its own 0.485 0.456 0.406",
    ]
    assert read_checkpoint(tmp_path / "a.pth", heads=2, soft_mask=0).overrides == ()


@pytest.mark.parametrize("text", ["[]", '{"mean": 1}', '{"resize": "odd"}', "{"])
def test_a_transform_changed_by_hand_is_refused(fresh, write, tmp_path, text):
    path = write(tmp_path / "a.pth", fresh(SMALL), illama_transform=text)
    with pytest.raises(CheckpointError, match=str(path)):
        read_checkpoint(path)
