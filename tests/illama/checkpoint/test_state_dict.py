"""Where weights are in a file: wrappers, keys, several models and averaged ones."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from illama.checkpoint.load import read_checkpoint
from illama.config import Config
from illama.files import CheckpointError

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)


@pytest.fixture
def two(fresh, official):
    """Return two models and their weights under the released names."""
    models = fresh(SMALL), fresh(SMALL, seed=1)
    return models, tuple(official(model) for model in models)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "model.",
        "net.",
        "network.",
        "model.model.",
        "student.backbone.",
        "model._fsdp_wrapped_module.",
        "_orig_mod.module.",
    ],
)
def test_prefixes_of_wrappers_are_removed(two, same_weights, tmp_path, prefix):
    (model, _), (state, _) = two
    wrapped = {f"{prefix}{name}": each for name, each in state.items()}
    torch.save({"state_dict": wrapped, "pytorch-lightning_version": "2"}, tmp_path / "a.ckpt")
    assert same_weights(read_checkpoint(tmp_path / "a.ckpt", heads=2).model, model)


def test_checkpointed_blocks_are_unwrapped(two, same_weights, tmp_path):
    (model, _), (state, _) = two
    inner = "_checkpoint_wrapped_module."
    named = {name.replace("attn.", f"attn.{inner}"): each for name, each in state.items()}
    torch.save(named, tmp_path / "a.pth")
    assert same_weights(read_checkpoint(tmp_path / "a.pth", heads=2).model, model)


def test_one_dictionary_of_weights_is_taken_whatever_its_key(two, same_weights, tmp_path):
    (model, _), (state, _) = two
    torch.save({"net": state, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "a.pth")
    seen = read_checkpoint(tmp_path / "a.pth", heads=2)
    assert seen.key == "net"
    assert same_weights(seen.model, model)


def test_several_dictionaries_are_refused_until_one_is_chosen(two, same_weights, tmp_path):
    (first, second), (student, teacher) = two
    torch.save({"student": student, "teacher": teacher, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="'student', 'teacher'; choose one with --key"):
        read_checkpoint(tmp_path / "a.pth", heads=2)
    for key, model in (("student", first), ("teacher", second)):
        seen = read_checkpoint(tmp_path / "a.pth", heads=2, key=key)
        assert seen.key == key
        assert same_weights(seen.model, model)
    with pytest.raises(CheckpointError, match="no weights under --key ema; it has 'student'"):
        read_checkpoint(tmp_path / "a.pth", heads=2, key="ema")


def test_several_models_in_one_dictionary_are_refused_until_one_is_chosen(
    two, same_weights, tmp_path
):
    (_, second), states = two
    both = {
        f"module.{name}.{key}": each
        for name, state in zip(("student", "teacher"), states, strict=True)
        for key, each in state.items()
    }
    torch.save({"state_dict": both}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="'student', 'teacher'; choose one with --key"):
        read_checkpoint(tmp_path / "a.pth", heads=2)
    seen = read_checkpoint(tmp_path / "a.pth", heads=2, key="teacher")
    assert same_weights(seen.model, second)


def test_an_averaged_model_loads_with_ema(fresh, official, same_weights, tmp_path):
    model = fresh(SMALL)
    state = official(AveragedModel(model).module)
    averaged = {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in state.items()}
    torch.save(averaged, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"averaged weights alone .* pass --ema"):
        read_checkpoint(tmp_path / "a.pth", heads=2)
    assert same_weights(read_checkpoint(tmp_path / "a.pth", heads=2, ema=True).model, model)


@pytest.mark.parametrize("key", ["model_ema", "state_dict_ema", "ema"])
def test_averaged_weights_beside_others_are_said_to_be_there(two, same_weights, tmp_path, key):
    (first, second), (state, averaged) = two
    counted = {"n_averaged": torch.tensor(3), **averaged}
    torch.save({"model": state, key: counted}, tmp_path / "a.pth")
    seen = read_checkpoint(tmp_path / "a.pth", heads=2)
    assert same_weights(seen.model, first)
    assert f"averaged weights are there, too ({key}); --ema takes them" in seen.notes
    assert same_weights(read_checkpoint(tmp_path / "a.pth", heads=2, ema=True).model, second)


@pytest.fixture
def sharded(two, tmp_path):
    """Return the index of a model in two safetensors files."""
    state = two[1][0]
    half = len(state) // 2
    names = list(state)
    index = {}
    for part, mine in enumerate((names[:half], names[half:]), start=1):
        file = f"model-0000{part}-of-00002.safetensors"
        save_file({name: state[name].contiguous() for name in mine}, tmp_path / file)
        index |= dict.fromkeys(mine, file)
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return path


def test_an_index_and_each_of_its_parts_are_the_whole_model(two, same_weights, sharded):
    part = sharded.with_name("model-00001-of-00002.safetensors")
    seen = [read_checkpoint(path, heads=2) for path in (sharded, part)]
    assert all(same_weights(each.model, two[0][0]) for each in seen)
    assert seen[0].file_sha256 == seen[1].file_sha256
    assert seen[0].bytes == sum(p.stat().st_size for p in sharded.parent.glob("*.safetensors"))


def test_parts_that_are_not_there_are_named(sharded):
    sharded.with_name("model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"part model-00002-of-00002.safetensors is not"):
        read_checkpoint(sharded, heads=2)
    sharded.unlink()
    with pytest.raises(CheckpointError, match=r"is part 1 of 2 .*index.json is not beside it"):
        read_checkpoint(sharded.with_name("model-00001-of-00002.safetensors"), heads=2)


@pytest.mark.parametrize("text", ["[]", "{", '{"weight_map": {}}', '{"weight_map": {"a": "../b"}}'])
def test_an_index_changed_by_hand_is_refused(sharded, text):
    sharded.write_text(text)
    with pytest.raises(CheckpointError, match=str(sharded)):
        read_checkpoint(sharded, heads=2)
