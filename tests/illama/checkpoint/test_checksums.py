"""Digests of weights; our safetensors files refuse any change of weights or record."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from illama.checkpoint.checksums import check_checksum, sha256_of_weights, to_safetensors
from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.files import CheckpointError

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)


def test_the_sha256_is_that_of_the_weights_not_of_the_layout(fresh, tmp_path):
    model = fresh(SMALL)
    save_checkpoint(model, tmp_path / "a.pth")
    save_checkpoint(model, tmp_path / "a.safetensors", args={"lr": 1})
    hashes = {read_checkpoint(tmp_path / name).sha256 for name in ("a.pth", "a.safetensors")}
    assert hashes == {sha256_of_weights(model.state_dict())}
    with torch.no_grad():
        model.head.bias[0] += 1
    assert sha256_of_weights(model.state_dict()) not in hashes


def test_a_file_holds_its_record_with_a_checksum_of_record_and_weights(tmp_path):
    record, state = {"epoch": 3, "args": {"lr": 0.1}}, {"weight": torch.arange(6.0).view(2, 3)}
    path = tmp_path / "a.safetensors"
    path.write_bytes(to_safetensors(record, state))
    with safetensors.safe_open(path, framework="pt") as opened:
        header = json.loads(opened.metadata()["illama"])
    found = safetensors.torch.load_file(path)
    assert {key: header[key] for key in record} == record
    check_checksum(header, found)
    for changed in ({**header, "epoch": 4}, {**header, "more": 1}, record):
        with pytest.raises(CheckpointError, match="checksum mismatch"):
            check_checksum(changed, found)
    for other in ({"weight": found["weight"].T}, {"bias": found["weight"]}, {}):
        with pytest.raises(CheckpointError, match="checksum mismatch"):
            check_checksum(header, other)
