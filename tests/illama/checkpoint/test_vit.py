from __future__ import annotations

import pytest
import torch

import illama
from illama.checkpoint.load import read_checkpoint
from illama.config import Config
from illama.files import CheckpointError

VIT = Config.at("vit", "nano", width=24, heads=2, depth=2)


def test_a_vit_file_is_bidirectional_with_its_class_token_first(fresh, official, tmp_path):
    model = fresh(VIT)
    torch.save(official(model), tmp_path / "deit.pth")
    seen = read_checkpoint(tmp_path / "deit.pth", heads=2)
    assert seen.layout == "ViT"
    assert seen.model.config == model.config
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(seen.model(images), model(images))


@pytest.mark.parametrize("names", ["gamma_{}", "ls{}.gamma"])
def test_layer_scale_and_a_class_token_without_position_are_folded(
    fresh, official, tmp_path, names
):
    model = fresh(VIT)
    with torch.no_grad():
        model.position_embedding[:, 0] = 0
    state = official(model)
    state["pos_embed"] = state["pos_embed"][:, 1:]
    for block in range(VIT.depth):
        for number, layer in ((1, "attn.proj"), (2, "mlp.fc2")):
            scale = torch.rand(len(state[f"blocks.{block}.{layer}.bias"])) + 0.1
            state[f"blocks.{block}.{names.format(number)}"] = scale
            state[f"blocks.{block}.{layer}.weight"] = (
                state[f"blocks.{block}.{layer}.weight"] / scale[:, None]
            )
            state[f"blocks.{block}.{layer}.bias"] = state[f"blocks.{block}.{layer}.bias"] / scale
    torch.save({"model": state}, tmp_path / "deit3.pth")
    seen = read_checkpoint(tmp_path / "deit3.pth", heads=2)
    assert seen.layout == "ViT"
    assert seen.notes == (
        "layer scale is folded into the projections",
        "the class token has no position: its row is zero",
    )
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(seen.model(images), model(images), rtol=1e-4, atol=1e-5)


def test_a_vit_without_biases_of_queries_keys_and_values_gets_zeros(fresh, official, tmp_path):
    model = fresh(VIT)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.bias.zero_()
    state = {name: value for name, value in official(model).items() if "qkv.bias" not in name}
    torch.save(state, tmp_path / "vit.pth")
    images = torch.randn(2, 3, 32, 32)
    seen = read_checkpoint(tmp_path / "vit.pth", heads=2)
    assert torch.equal(seen.model(images), model(images))
    assert seen.notes == ("queries, keys and values have no bias: it is zero",)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("dist_token", (1, 1, 24), "distilled DeiT"),
        ("reg_token", (1, 4, 24), "register tokens"),
        ("fc_norm.weight", (24,), "mean of the patches"),
        ("blocks.0.ls1.gamma", (3,), "unexpected 1"),
    ],
)
def test_what_our_models_cannot_equal_is_refused_by_name(
    fresh, official, tmp_path, name, shape, words
):
    torch.save({**official(fresh(VIT)), name: torch.ones(shape)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=words) as refusal:
        read_checkpoint(tmp_path / "other.pth", heads=2)
    assert name in str(refusal.value)


@pytest.mark.filterwarnings("ignore")  # of timm itself
@pytest.mark.parametrize("name", ["vit_tiny", "deit_tiny", "deit3_small"])
def test_a_vit_file_gives_the_logits_of_timm(reference, tmp_path, name):
    timm = reference("timm")
    torch.manual_seed(0)
    theirs = timm.create_model(f"{name}_patch16_224", num_classes=7).eval()
    strengthen(theirs)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        seen, expected = illama.load(tmp_path / "vit.pth")(images), theirs(images)
    assert (seen - expected).abs().max() <= 1e-5 * expected.abs().max()


def strengthen(model):
    """Let every part of a fresh model matter: large weights, biases, norms and layer scales."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.uniform_(0.1, 1)
            elif parameter.ndim > 1:
                parameter.mul_(2)
            else:
                parameter.add_(torch.randn_like(parameter) / 10)
