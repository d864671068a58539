"""Checkpoints of every family and layout, what they are run with, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import illama
from illama.checkpoint import released
from illama.checkpoint.heads import ILLAMA_HEADS
from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.files import CheckpointError
from illama.model import Model

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)


VIT = Config.at("vit", "nano", width=24, heads=2, depth=2)


GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "official_micro.pth"


def test_the_released_layout_loads_with_its_provenance():
    seen = read_checkpoint(GOLDEN)
    assert seen.layout == "official .pth"
    assert (seen.key, seen.epoch, seen.args["cutoff_soft"]) == ("model", 299, 50)
    assert seen.bytes == GOLDEN.stat().st_size
    assert seen.notes == ("no config in the file: taken as the released form",)
    assert not seen.model.training
    assert all(parameter.requires_grad for parameter in seen.model.parameters())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "backbone."])
def test_wrappers_leave_no_trace_in_the_names(fresh, official, same_weights, tmp_path, prefix):
    model = fresh(SMALL)
    state = {f"{prefix}{name}": tensor for name, tensor in official(model).items()}
    torch.save(state, tmp_path / "bare.pth")
    seen = read_checkpoint(tmp_path / "bare.pth", heads=2)
    assert same_weights(seen.model, model)
    assert (seen.layout, seen.key) == ("bare state dict", None)


def test_averaged_weights_are_taken_when_asked_for(fresh, official, same_weights, tmp_path):
    model, averaged = fresh(SMALL, 0), fresh(SMALL, 1)
    path = tmp_path / "ema.pth"
    torch.save({"model": official(model), "model_ema": official(averaged)}, path)
    assert same_weights(illama.load(path, heads=2), model)
    seen = read_checkpoint(path, heads=2, ema=True)
    assert same_weights(seen.model, averaged)
    assert seen.key == "model_ema"


def test_averaged_weights_that_are_not_there_are_refused(fresh, write, tmp_path):
    with pytest.raises(CheckpointError, match="no averaged weights"):
        read_checkpoint(write(tmp_path / "a.pth", fresh(SMALL)), ema=True)


def test_an_old_file_loads_with_the_note_that_it_cannot_be_verified(
    fresh, official, same_weights, tmp_path
):
    model, path = fresh(SMALL), tmp_path / "old.pth"
    torch.save(official(model), path, _use_new_zipfile_serialization=False)
    seen = read_checkpoint(path, heads=2)
    assert same_weights(seen.model, model)
    assert any("cannot be verified" in note for note in seen.notes)


@pytest.mark.parametrize("width", ILLAMA_HEADS)
def test_size_patch_classes_depth_and_heads_come_from_the_shapes(official, tmp_path, width):
    config = replace(SMALL, width=width, heads=ILLAMA_HEADS[width], depth=1, classes=5)
    torch.save(official(Model(config)), tmp_path / "bare.pth")
    assert read_checkpoint(tmp_path / "bare.pth").model.config == config


def test_an_unknown_width_asks_for_heads(fresh, official, write, tmp_path):
    torch.save(official(fresh(SMALL)), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="pass --heads"):
        illama.load(tmp_path / "a.pth")
    assert illama.load(tmp_path / "a.pth", heads=3).config.heads == 3
    assert illama.load(write(tmp_path / "b.pth", fresh(SMALL))).config.heads == 2


def test_rotary_positions_alone_need_an_image_size(fresh, official, write, tmp_path):
    model = fresh(replace(SMALL, position="rotary"))
    torch.save(official(model), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="pass --image-size"):
        illama.load(tmp_path / "a.pth", heads=2)
    assert illama.load(tmp_path / "a.pth", heads=2, image_size=16).config == model.config
    path = write(tmp_path / "b.pth", model, input_size=16)
    assert illama.load(path).config == model.config


@pytest.mark.parametrize("token", ["first", "last"])
def test_resizing_positions_keeps_the_row_of_the_class_token(fresh, same_weights, tmp_path, token):
    model = fresh(replace(SMALL, class_token=token))
    save_checkpoint(model, tmp_path / "a.pth")
    seen = read_checkpoint(tmp_path / "a.pth", image_size=24)
    old, new = model.position_embedding, seen.model.position_embedding
    row = model.config.class_index, seen.model.config.class_index
    assert torch.equal(old[:, row[0]], new[:, row[1]])
    assert new.shape == (1, 37, 12)
    assert "positions resized from 16 to 24 pixels" in seen.notes
    assert same_weights(read_checkpoint(tmp_path / "a.pth", image_size=16).model, model)


def test_a_constant_position_table_stays_constant_when_resized(fresh, tmp_path):
    model = fresh(SMALL)
    nn.init.constant_(model.position_embedding, 0.5)
    save_checkpoint(model, tmp_path / "a.pth")
    table = illama.load(tmp_path / "a.pth", image_size=40).position_embedding
    torch.testing.assert_close(table, torch.full((1, 101, 12), 0.5))


def test_an_image_size_that_does_not_divide_is_refused(fresh, tmp_path):
    save_checkpoint(fresh(SMALL), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="not a multiple"):
        illama.load(tmp_path / "a.pth", image_size=18)


@pytest.mark.parametrize("given", [{"image_size": 0}, {"heads": 0}, {"masking": ""}])
def test_nothing_is_not_taken_for_the_files_own_value(given, fresh, tmp_path):
    save_checkpoint(fresh(SMALL), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"{next(iter(given))}="):
        illama.load(tmp_path / "a.pth", **given)


def test_more_tokens_than_a_mask_is_built_for_are_refused(fresh, tmp_path):
    save_checkpoint(fresh(replace(SMALL, position="rotary")), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="tokens"):
        illama.load(tmp_path / "a.pth", image_size=400)
    with pytest.raises(CheckpointError, match="smaller image size"):
        illama.load(tmp_path / "a.pth", image_size=10**8)  # before positions of that size are made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cls_token": None}, "is not an iLLaMA or ViT: cls_token is missing"),
        ({"head__weight": torch.zeros(3)}, "head.weight is missing or misshapen"),
        ({"pos_embed": torch.zeros(1, 16, 12)}, "not a square grid"),
        ({"pos_embed": torch.zeros(17, 12)}, "not a square grid"),
        ({"blocks__5__norm1__weight": torch.ones(12)}, "block 2 is missing"),
        ({"norm__weight": torch.full((12,), float("nan"))}, r"not finite in 1 \(norm.weight\)"),
        ({"head__bias": torch.zeros(3, dtype=torch.int8)}, "head.bias is torch.int8"),
        ({"module__norm__weight": torch.ones(12)}, "two names"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(spoiled, tmp_path, changes, words):
    with pytest.raises(CheckpointError, match=words):
        illama.load(spoiled(**changes))


def test_a_config_that_contradicts_the_weights_is_refused(fresh, tmp_path):
    model = fresh(SMALL)
    model.config = replace(SMALL, depth=4)
    save_checkpoint(model, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="config has depth 4, its weights have 2"):
        illama.load(tmp_path / "a.pth")


@pytest.mark.parametrize("text", ["{", "[]", '{"depth": "two"}', '{"unknown": 1}'])
def test_a_config_changed_by_hand_is_refused(fresh, write, tmp_path, text):
    path = write(tmp_path / "a.pth", fresh(SMALL), illama_config=text)
    with pytest.raises(CheckpointError, match=str(path)):
        illama.load(path)


def test_weights_without_their_header_are_refused_in_our_safetensors(fresh, official, tmp_path):
    from safetensors.torch import save_file

    state = fresh(SMALL).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="no record of their architecture"):
        illama.load(tmp_path / "a.safetensors")
    save_file(official(fresh(SMALL)), tmp_path / "b.safetensors")
    seen = read_checkpoint(tmp_path / "b.safetensors", heads=2)
    assert any("no checksum" in note for note in seen.notes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_run_in_float32(fresh, official, tmp_path, dtype):
    model = fresh(SMALL)
    torch.save({k: v.to(dtype) for k, v in official(model).items()}, tmp_path / "a.pth")
    seen = read_checkpoint(tmp_path / "a.pth", heads=2)
    assert {p.dtype for p in seen.model.parameters()} == {torch.float32}
    assert any("run in float32" in note for note in seen.notes)
    expected = model.head.weight.to(dtype).float()
    assert torch.equal(seen.model.head.weight, expected)


def test_weights_that_share_memory_in_the_file_are_apart_in_the_model(spoiled, tmp_path):
    shared = torch.ones(12)
    path = spoiled(norm__weight=shared, blocks__0__norm1__weight=shared)
    model = illama.load(path)
    with torch.no_grad():
        model.norm.weight.zero_()
    assert model.blocks[0].attention_norm.weight.sum() == 12


def test_loading_leaves_the_random_state_alone(fresh, tmp_path):
    save_checkpoint(fresh(SMALL), tmp_path / "a.pth")
    before = torch.get_rng_state()
    illama.load(tmp_path / "a.pth")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("args", "epoch", "implied"),
    [
        ({"mask_mode": "soft", "soft_mask": 1.0, "cutoff_soft": 50}, 299, None),
        ({"mask_mode": "soft", "soft_mask": 1.0, "cutoff_soft": 50}, 50, None),
        ({"mask_mode": "soft", "soft_mask": 1.0, "cutoff_soft": 50}, 49, "1"),
        (
            {"mask_mode": "soft", "soft_mask": 1, "cutoff_soft": 50, "mask_schedule": "linear"},
            40,
            "0.2",
        ),
        ({"mask_mode": "soft", "soft_mask": 1.0, "cutoff_soft": 0}, 0, None),
        ({"mask_mode": "standard", "soft_mask": 1.0, "cutoff_soft": 0}, 299, "1"),
        ({"mask_mode": "standard", "soft_mask": 0.0}, 299, None),
        ({"soft_mask": 1.0}, 0, None),
        ({}, 0, None),
    ],
)
def test_a_file_from_the_soft_phase_is_refused_until_told(
    fresh, write, tmp_path, args, epoch, implied
):
    path = write(tmp_path / "a.pth", fresh(SMALL), epoch, **args)
    if implied is None:
        assert read_checkpoint(path).soft_mask == 0
    else:
        with pytest.raises(CheckpointError, match=f"pass --soft-mask {implied} "):
            illama.load(path)
        assert read_checkpoint(path, soft_mask=float(implied)).soft_mask == float(implied)
        assert read_checkpoint(path, soft_mask=0).soft_mask == 0


def test_a_published_file_is_causal_whatever_its_args_say(fresh, write, tmp_path, monkeypatch):
    args = {"mask_mode": "standard", "soft_mask": 1.0}
    path = write(tmp_path / "a.pth", fresh(SMALL), **args)
    sha256 = read_checkpoint(path, soft_mask=0).file_sha256
    known = released.Released(name="known", sha256=sha256, megabytes=1, top1=0.5)
    monkeypatch.setattr(released, "RELEASED", (known,))
    seen = read_checkpoint(path)
    assert (seen.soft_mask, seen.released) == (0, "known")


def test_load_gives_a_model_that_is_right_without_arguments(fresh, tmp_path):
    model, images = fresh(SMALL), torch.randn(2, 3, 16, 16)
    save_checkpoint(model, tmp_path / "a.pth", soft_mask=1)
    assert read_checkpoint(tmp_path / "a.pth").soft_mask == 1
    assert read_checkpoint(tmp_path / "a.pth").model.config == SMALL
    bidirectional = illama.load(tmp_path / "a.pth")
    assert bidirectional.config.masking == "none"
    torch.testing.assert_close(bidirectional(images), model(images, 1.0))
    assert illama.load(tmp_path / "a.pth", soft_mask=0).config == SMALL


def test_load_refuses_a_soft_mask_that_the_model_would_not_know(fresh, tmp_path):
    save_checkpoint(fresh(SMALL), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"use read_checkpoint"):
        illama.load(tmp_path / "a.pth", soft_mask=0.5)
    assert read_checkpoint(tmp_path / "a.pth", soft_mask=0.5).soft_mask == 0.5


def test_another_masking_is_run_when_asked_for_and_noted(fresh, tmp_path):
    save_checkpoint(fresh(SMALL), tmp_path / "a.pth")
    seen = read_checkpoint(tmp_path / "a.pth", masking="additive")
    assert seen.model.config == replace(SMALL, masking="additive")
    assert any("not its own 'multiplicative'" in note for note in seen.notes)
    with pytest.raises(CheckpointError, match="class_token='first'"):
        read_checkpoint(tmp_path / "a.pth", masking="modified")
    with pytest.raises(CheckpointError, match="masking multiplicative only"):
        read_checkpoint(tmp_path / "a.pth", masking="additive", soft_mask=0.5)
    with pytest.raises(CheckpointError, match="from 0 to 1"):
        read_checkpoint(tmp_path / "a.pth", soft_mask=1.5)


@pytest.mark.data
def test_the_trained_checkpoint_loads_and_its_bidirectional_twin_is_refused(shared):
    folder = shared / "checkpoints"
    assert illama.load(folder / "illama_cifar10_nano.pth").config == Config.at("soft-mask", "nano")
    twin = folder / "bidirectional_cifar10_nano.pth"
    with pytest.raises(CheckpointError, match="--soft-mask 1 "):
        illama.load(twin)
    assert illama.load(twin, soft_mask=1).config.masking == "none"
