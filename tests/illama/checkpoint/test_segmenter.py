from __future__ import annotations

import json
from argparse import Namespace

import pytest
import torch

from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.segmenter import is_segmenter, read_segmenter, save_segmenter
from illama.config import Config
from illama.files import CheckpointError

TINY = Config(image_size=16, patch_size=4, width=16, depth=4, heads=2, classes=1)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_segmenter_comes_back_as_it_was(segmenter, tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    save_segmenter(segmenter, path, epoch=3, args={"lr": 1.0}, names=("a", "b"))
    assert is_segmenter(path)
    found = read_segmenter(path)
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(found.segmenter(images).logits, segmenter(images).logits)
    assert (found.epoch, found.args["lr"], found.names) == (3, 1.0, ("a", "b"))
    assert read_segmenter(path, image_size=32).segmenter.config.image_size == 32


def test_other_files_are_refused(segmenter, golden_checkpoint, tmp_path):
    assert not is_segmenter(golden_checkpoint)
    with pytest.raises(CheckpointError, match="has no segmentation head"):
        read_segmenter(golden_checkpoint)
    path = tmp_path / "file.safetensors"
    save_segmenter(segmenter, path)
    with pytest.raises(CheckpointError, match="illama-eval segment"):
        read_checkpoint(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + b"\xff\xff\x00\x00")
    with pytest.raises(CheckpointError, match="checksum mismatch"):
        read_segmenter(path)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"backbone": {}}, "does not fit"),
        (
            {"backbone": {**TINY.to_dict(), "depth": 9}, "classes": 5, "blocks": [1, 2, 3, 4]},
            "weights do not fit its config",
        ),
    ],
)
def test_damaged_records_are_refused(segmenter, tmp_path, record, words):
    path = tmp_path / "file.pth"
    save_segmenter(segmenter, path)
    with torch.serialization.safe_globals([Namespace]):
        content = torch.load(path, weights_only=True)
    content["args"].illama_segmenter = json.dumps({"segmenter": record})
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=words):
        read_segmenter(path)
