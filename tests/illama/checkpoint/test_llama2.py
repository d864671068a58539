from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from illama.checkpoint.llama2 import initialize, open_llama, rotary_pairs, spread
from illama.checkpoint.load import load, read_checkpoint
from illama.config import SIZES
from illama.files import CheckpointError
from illama.layers import RotaryTable

WIDTH, HIDDEN, HEADS, HEAD_WIDTH, LAYERS = 24, 400, 4, 8, 3
MICRO = {"width": 8, "depth": 2, "heads": 2, "image_size": 8, "patch_size": 4, "classes": 5}


@pytest.fixture(autouse=True)
def micro(monkeypatch):
    monkeypatch.setitem(SIZES, "micro", MICRO)


def weights(key_heads=HEADS):
    """Draw a small model with the names and shapes of a LLaMA; a head is not width / heads."""
    generator = torch.Generator().manual_seed(0)
    rows = {"q": HEADS * HEAD_WIDTH, "k": key_heads * HEAD_WIDTH, "v": key_heads * HEAD_WIDTH}
    shapes = {f"self_attn.{name}_proj": (count, WIDTH) for name, count in rows.items()}
    shapes |= {
        "self_attn.o_proj": (WIDTH, HEADS * HEAD_WIDTH),
        "mlp.gate_proj": (HIDDEN, WIDTH),
        "mlp.up_proj": (HIDDEN, WIDTH),
        "mlp.down_proj": (WIDTH, HIDDEN),
        "input_layernorm": (WIDTH,),
        "post_attention_layernorm": (WIDTH,),
    }
    return {
        f"model.layers.{layer}.{name}.weight": torch.randn(shape, generator=generator).bfloat16()
        for layer in range(LAYERS)
        for name, shape in shapes.items()
    }


@pytest.fixture(params=["safetensors", "bin"])
def llama(request, tmp_path):
    """Write two shards, which split a layer, and their index."""
    return write(tmp_path / "llama", request.param)


def write(folder, kind="safetensors", key_heads=HEADS, **changes):
    folder.mkdir()
    tensors = weights(key_heads)
    config = {
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": key_heads,
        "num_hidden_layers": LAYERS,
        "head_dim": HEAD_WIDTH,
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    stem = "model" if kind == "safetensors" else "pytorch_model"
    files = {}
    for shard, names in enumerate((list(tensors)[:14], list(tensors)[14:]), start=1):
        file = f"{stem}-{shard:05d}-of-00002.{kind}"
        part = {name: tensors[name] for name in names}
        if kind == "safetensors":
            safetensors.torch.save_file(part, folder / file)
        else:
            torch.save(part, folder / file)
        files |= dict.fromkeys(names, file)
    index = json.dumps({"weight_map": files})
    (folder / f"{stem}.{kind}.index.json").write_text(index)
    return SimpleNamespace(folder=folder, tensors={k: v.float() for k, v in tensors.items()})


def test_indices_are_spread_as_in_the_released_selection():
    assert spread(12, 4).tolist() == [0, 3, 6, 9]
    assert spread(11, 4).tolist() == [0, 3, 7, 10]
    assert spread(5, 5).tolist() == [0, 1, 2, 3, 4]


def test_the_uniform_selection_is_the_released_one(llama, tmp_path):
    initialize(llama.folder, "micro", tmp_path / "micro.pth")
    found = read_checkpoint(tmp_path / "micro.pth")
    state = found.model.state_dict()
    for block in range(2):
        layer = f"model.layers.{block}."
        parts = [llama.tensors[f"{layer}self_attn.{name}_proj.weight"] for name in "qkv"]
        qkv = torch.cat(parts)[spread(96, 24)][:, spread(24, 8)]
        down = llama.tensors[f"{layer}mlp.down_proj.weight"][spread(24, 8)][:, spread(400, 256)]
        norm = llama.tensors[f"{layer}post_attention_layernorm.weight"][spread(24, 8)]
        assert torch.equal(state[f"blocks.{block}.attention.qkv.weight"], qkv)
        assert torch.equal(state[f"blocks.{block}.feed_forward.down.weight"], down)
        assert torch.equal(state[f"blocks.{block}.feed_forward_norm.weight"], norm)
    assert not state["blocks.0.attention.qkv.bias"].any()
    assert state["class_token"].any()
    assert found.args == {"selected_from": "llama", "selection": "uniform", "seed": 0}


def half_split_scores(llama, tokens, head, key_head, channels, inside):
    """Return a head's attention logits as the language model computes them, on some channels."""
    layer = "model.layers.0.self_attn."
    angle = torch.outer(torch.arange(len(tokens)), 1e4 ** (-torch.arange(0, 8, 2) / 8))
    cosine, sine = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()

    def turn(name, which):
        rows = llama.tensors[f"{layer}{name}_proj.weight"][which * 8 : which * 8 + 8]
        x = tokens @ rows[:, channels].T
        swapped = torch.cat((-x[:, 4:], x[:, :4]), -1)
        return (x * cosine + swapped * sine)[:, inside]

    return turn("q", head) @ turn("k", key_head).T


@pytest.mark.parametrize("key_heads", [4, 2])
def test_selected_heads_have_the_attention_of_their_source(tmp_path, key_heads):
    llama = write(tmp_path / "llama", key_heads=key_heads)
    initialize(llama.folder, "micro", tmp_path / "micro.safetensors", head_aware=True)
    model = load(tmp_path / "micro.safetensors")
    tokens = torch.randn(model.config.tokens, 8, generator=torch.Generator().manual_seed(1))
    query, key, _ = model.blocks[0].attention.split(tokens[None], RotaryTable(5, 4))
    scores = (query @ key.transpose(-2, -1))[0] * 4**0.5
    for own, head in enumerate(spread(4, 2).tolist()):
        shared = head // (4 // key_heads)
        source = half_split_scores(
            llama, tokens, head, shared, spread(24, 8), rotary_pairs(8, 4).sort().values
        )
        assert torch.allclose(scores[own], source, atol=1e-4)


def test_rotary_pairs_are_whole_and_side_by_side():
    assert rotary_pairs(8, 4).tolist() == [0, 4, 2, 6]
    assert rotary_pairs(8, 8).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_values_leave_by_the_columns_they_came_in_by(tmp_path):
    llama = write(tmp_path / "llama")
    initialize(llama.folder, "micro", tmp_path / "micro.pth", head_aware=True)
    state = load(tmp_path / "micro.pth").state_dict()
    channels, rows = spread(24, 8), torch.tensor([0, 2, 4, 6, 16, 18, 20, 22])
    layer = "model.layers.1.self_attn."
    value = llama.tensors[f"{layer}v_proj.weight"][rows][:, channels]
    out = llama.tensors[f"{layer}o_proj.weight"][channels][:, rows]
    assert torch.equal(state["blocks.1.attention.qkv.weight"][16:], value)
    assert torch.equal(state["blocks.1.attention.projection.weight"], out)


def test_one_file_stays_open_at_a_time(llama):
    opened = open_llama(llama.folder)
    for layer in range(LAYERS):
        opened.read(layer, "mlp.up_proj")
        assert len(opened._opened) == 1


def test_what_is_no_llama_is_refused_in_one_line(tmp_path):
    def refuse(folder, words, size="micro"):
        with pytest.raises(CheckpointError) as refused:
            initialize(folder, size, tmp_path / "out.pth")
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "out.pth").exists()

    refuse(tmp_path / "none", "config.json: cannot be read")
    refuse(write(tmp_path / "small").folder, "layers is 3, the model to fill needs 12", "tiny")
    refuse(
        write(tmp_path / "odd", hidden_size="wide").folder, "config.json: is not that of a LLaMA"
    )
    cut = write(tmp_path / "cut").folder
    shard = min(cut.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    refuse(cut, "cannot be read")
    lost = write(tmp_path / "lost").folder
    (lost / "model.safetensors.index.json").write_text("{}")
    refuse(lost, "no file has model.layers.0.self_attn.q_proj.weight")
    bare = write(tmp_path / "bare").folder
    (bare / "model.safetensors.index.json").unlink()
    refuse(bare, "has none of model.safetensors.index.json")
    wild = write(tmp_path / "wild").folder
    tensors = safetensors.torch.load_file(wild / shard.name)
    tensors["model.layers.0.self_attn.k_proj.weight"][0, 0] = float("nan")
    safetensors.torch.save_file(tensors, wild / shard.name)
    refuse(wild, "is not finite")
