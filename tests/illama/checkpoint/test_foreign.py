"""Files of other kinds are said to be what they are, with what to do, and never to be damaged."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from illama.checkpoint.load import read_checkpoint
from illama.files import CheckpointError

MODELS = {
    "hugging face vit": (
        ["vit.embeddings.cls_token", "vit.embeddings.patch_embeddings.projection.weight"],
        ["Hugging Face", "--model hf:FOLDER"],
    ),
    "hugging face dinov2": (
        ["embeddings.cls_token", "encoder.layer.0.layer_scale1.lambda1"],
        ["Hugging Face's DINOv2", "--model hf:FOLDER"],
    ),
    "hugging face clip": (
        ["vision_model.embeddings.class_embedding", "text_model.embeddings.position_ids"],
        ["CLIP or SigLIP", "--model hf:FOLDER"],
    ),
    "clip": (["visual.class_embedding", "visual.conv1.weight"], ["CLIP", "--model timm:NAME"]),
    "torchvision vit": (
        ["class_token", "conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"],
        ["torchvision's ViT", "illama_eval.wrap"],
    ),
    "convnext": (["stages.0.blocks.0.conv_dw.weight"], ["a ConvNeXt", "--model timm:NAME"]),
    "swin": (
        ["layers.0.blocks.0.attn.relative_position_bias_table"],
        ["a Swin transformer", "--model timm:NAME"],
    ),
    "efficientnet": (["conv_stem.weight"], ["an EfficientNet", "--model timm:NAME"]),
    "mae": (["cls_token", "blocks.0.norm1.weight", "decoder_blocks.0.norm1.weight"], ["MAE's"]),
}


def resnet(stages, deep=False):
    names = [
        f"layer{stage}.{block}.conv{conv}.weight"
        for stage, blocks in enumerate(stages, start=1)
        for block in range(blocks)
        for conv in range(1, 4 if deep else 3)
    ]
    return ["conv1.weight", *names, "fc.weight"]


MODELS["resnet18"] = (resnet((2, 2, 2, 2)), ["a ResNet", "--model timm:resnet18 --weights FILE"])
MODELS["resnet50"] = (resnet((3, 4, 6, 3), deep=True), ["--model timm:resnet50 --weights FILE"])


def refusal(path, **options):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path))
    for untrue in ("damaged", "download", "lost", "tampered", "compressed, which"):
        assert untrue not in text
    return text


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize(("names", "words"), MODELS.values(), ids=MODELS)
def test_models_of_other_families_are_named(tmp_path, names, words, prefix):
    path = tmp_path / "model.pth"
    state = {f"{prefix}{name}": torch.zeros(2) for name in (*names, "a.weight", "b.weight")}
    torch.save({"state_dict": state}, path)
    text = refusal(path)
    for word in words:
        assert word in text


def test_safetensors_of_another_family_are_not_said_to_have_lost_anything(tmp_path):
    names = MODELS["hugging face vit"][0]
    save_file({name: torch.zeros(2) for name in names}, tmp_path / "model.safetensors")
    assert "Hugging Face" in refusal(tmp_path / "model.safetensors")


def zipped(*names, kind=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name in names:
            archive.writestr(name, b"content")
    return stream.getvalue()


def arrays(**named):
    stream = io.BytesIO()
    np.savez_compressed(stream, **named)
    return stream.getvalue()


def picture(kind):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, kind)
    return stream.getvalue()


def scripted():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), stream)
    return stream.getvalue()


FILES = {
    "jax": (lambda: arrays(**{"Transformer/encoderblock_0/x": np.zeros(2)}), "weights of JAX"),
    "predictions": (lambda: arrays(logits=np.zeros(2)), "--predictions"),
    "images": (lambda: arrays(images=np.zeros(2), labels=np.zeros(2)), "--data"),
    "arrays": (lambda: arrays(a=np.zeros(2)), "arrays of NumPy"),
    "zip": (lambda: zipped("a/model.pth", "readme.txt"), "a zip archive"),
    "program": (lambda: zipped("m/archive_format", "m/x"), "an exported program"),
    "photo": (lambda: picture("JPEG"), "a photo (JPEG)"),
    "drawing": (lambda: picture("PNG"), "an image (PNG)"),
    "npy": (lambda: b"\x93NUMPY\x01\x00", "a NumPy array"),
    "keras": (lambda: b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "json": (lambda: json.dumps({"a": 1}).encode(), "text (JSON)"),
    "gzip": (lambda: b"\x1f\x8b\x08\x00", "compressed (gzip); unpack it"),
}


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_files_that_are_no_checkpoints_are_named(tmp_path, content, words):
    (tmp_path / "file.pth").write_bytes(content())
    assert words in refusal(tmp_path / "file.pth")


@pytest.mark.filterwarnings("ignore")  # torch deprecates TorchScript
def test_a_torchscript_program_is_named(tmp_path):
    (tmp_path / "file.pt").write_bytes(scripted())
    assert "a TorchScript program" in refusal(tmp_path / "file.pt")
