"""Quantized files: bits in and out, every byte accounted for, damage and tampering refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from illama.checkpoint.checksums import sha256_of_weights, to_safetensors
from illama.checkpoint.load import load, read_checkpoint
from illama.checkpoint.quantized import count_bytes, pack, serialize
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.files import CheckpointError
from illama.model import Model

CONFIG = Config(image_size=16, patch_size=8, width=32, depth=2, heads=2, classes=8)


@pytest.fixture(scope="module")
def file(quantized_model) -> bytes:
    model, weights = quantized_model()
    return serialize(model, weights, {"scheme": "w4"}, soft_mask=0.0)


@pytest.mark.parametrize(
    ("bits", "more"),
    [(8, {}), (6, {}), (4, {"zero": True}), (3, {}), (2, {}), (8, {"activation": "int8-dynamic"})],
)
def test_a_file_loads_again_with_the_same_logits_and_digest(quantized_model, tmp_path, bits, more):
    model, weights = quantized_model(bits, **more)
    path = tmp_path / "model.safetensors"
    path.write_bytes(serialize(model, weights, {"scheme": "test"}, soft_mask=0.0))
    images = torch.randn(3, 3, 16, 16)
    found = read_checkpoint(path)
    with torch.no_grad():
        assert torch.equal(found.model(images), model(images))
    assert found.sha256 == sha256_of_weights(pack(model, weights))
    assert found.layout == "illama quantized .safetensors"
    assert found.quantization["scheme"] == "test"


def test_rows_of_a_file_stand_in_the_published_order(quantized_model):
    model, weights = quantized_model(8)
    layer = model.blocks[0].attention.qkv
    exact = Model(CONFIG)
    with torch.no_grad():
        exact.blocks[0].attention.qkv.weight.copy_(layer.weight.dequantize())
    stored = pack(model, weights)
    name = "blocks.0.attention.qkv"
    values = stored[f"{name}.values"].float() * stored[f"{name}.scale"].float()
    assert torch.equal(values, exact.state_dict()[f"{name}.weight"])


def test_every_byte_of_a_file_is_something(quantized_model, file):
    model, weights = quantized_model()
    count = count_bytes(pack(model, weights), weights, len(file))
    assert sum(count.values()) == len(file)
    assert count["values"] == sum(w.values.numel() for w in weights.values()) // 2
    assert count["header"] == struct.unpack("<Q", file[:8])[0] + 8


def test_a_soft_mask_of_one_gives_the_bidirectional_quantized_model(quantized_model, tmp_path):
    model, weights = quantized_model(8)
    path = tmp_path / "model.safetensors"
    path.write_bytes(serialize(model, weights, {}, soft_mask=1.0))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        logits = load(path)(images)
        assert torch.allclose(logits, model(images, soft_mask=1.0), atol=1e-5)
    assert load(path).config.masking == "none"


def test_a_quantized_model_is_not_saved_as_a_plain_one(quantized_model, tmp_path):
    model, _ = quantized_model()
    with pytest.raises(CheckpointError, match="quantized"):
        save_checkpoint(model, tmp_path / "again.pth")


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data)
    return path


def test_a_damaged_file_is_refused_in_one_line(tmp_path, file):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = load(written(tmp_path, file))(images)
    for _ in range(60):
        place = int(torch.randint(len(file), (1,), generator=generator))
        bit = 1 << int(torch.randint(8, (1,), generator=generator))
        data = bytearray(file)
        data[place] ^= bit
        try:
            model = load(written(tmp_path, bytes(data)))
        except CheckpointError as error:
            said = str(error)
        else:
            with torch.no_grad():
                said = "" if torch.equal(model(images), expected) else "another model\n"
        assert "\n" not in said


@pytest.mark.parametrize("length", [0, 1, 8, 100, 5000])
def test_a_truncated_file_is_refused(tmp_path, file, length):
    with pytest.raises(CheckpointError):
        load(written(tmp_path, file[:length]))


def tampered(file: bytes, change: dict[str, object], drop: str = "") -> bytes:
    """Return the file with one layer's record changed, or a tensor gone, and a fitting checksum."""
    state = safetensors.torch.load(file)
    size = struct.unpack("<Q", file[:8])[0]
    record = json.loads(json.loads(file[8 : 8 + size])["__metadata__"]["illama"])
    del record["checksum"]
    if drop:
        del state[drop]
    layer = record["quantization"]["layers"]["blocks.0.attention.qkv"]
    for key, value in change.items():
        if value is ...:
            del layer[key]
        else:
            layer[key] = value
    return to_safetensors(record, state)


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 5},
        {"bits": 8},
        {"bits": 3},
        {"bits": "4"},
        {"group": 0},
        {"group": 7},
        {"group": 8},
        {"shape": [96, 64]},
        {"shape": [96]},
        {"shape": [2**40, 2**40]},
        {"shape": [-96, -32]},
        {"zero": True},
        {"zero": 1},
        {"activation": "int9"},
        {"activation": "fp8-dynamic"},
        {"activation": "int8-static"},
        {"activation_scale": 0.5},
        {"activation_scale": "nan"},
        {"activation_zero": 300},
        {"dimensions": 7},
        {"shape": ...},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_record_changed_by_hand_is_refused_in_one_line(tmp_path, file, change):
    with pytest.raises(CheckpointError) as refused:
        load(written(tmp_path, tampered(file, change)))
    assert "\n" not in str(refused.value)


def test_a_missing_tensor_is_named(tmp_path, file):
    data = tampered(file, {}, drop="blocks.1.feed_forward.down.scale")
    with pytest.raises(CheckpointError, match=r"blocks\.1\.feed_forward\.down\.scale is missing"):
        load(written(tmp_path, data))
