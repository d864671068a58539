from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from illama.files import CheckpointError
from illama_eval.subjects.huggingface import open_huggingface, transform_of
from illama_eval.subjects.subject import SubjectError

CPU = torch.device("cpu")
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
KINDS: dict[str, tuple[str, str, dict[str, Any], int, int | None]] = {
    "vit": ("ViTConfig", "ViTModel", {}, 1, 0),
    "vit_head": ("ViTConfig", "ViTForImageClassification", {"num_labels": 5}, 1, 0),
    "deit": ("DeiTConfig", "DeiTModel", {}, 2, 0),
    "beit": ("BeitConfig", "BeitModel", {"use_relative_position_bias": True}, 1, 0),
    "dinov2": ("Dinov2Config", "Dinov2Model", {}, 1, 0),
    "registers": ("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", {}, 5, 0),
    "dinov3": ("DINOv3ViTConfig", "DINOv3ViTModel", {"num_register_tokens": 4}, 5, 0),
    "siglip": ("SiglipVisionConfig", "SiglipVisionModel", {}, 0, None),
}
"""Config, model, fields of the config, tokens before the image's, and index of the class token."""


@pytest.fixture
def save(reference: Callable[[str], Any], tmp_path: Path) -> Callable[[str], tuple[Any, Path]]:
    """Return a function that writes the folder of a small random model: the model, and where."""

    if importlib.util.find_spec("torchvision"):
        reference("torchvision")  # transformers imports it where it is installed
    transformers = reference("transformers")

    def write(kind: str) -> tuple[Any, Path]:
        config, model, more, _, _ = KINDS[kind]
        torch.manual_seed(0)
        made = getattr(transformers, model)(getattr(transformers, config)(**SMALL, **more)).eval()
        made.save_pretrained(tmp_path / kind)
        settings = {"size": {"height": 32, "width": 32}, "resample": 2, "image_mean": [0.5] * 3}
        (tmp_path / kind / "preprocessor_config.json").write_text(json.dumps(settings))
        return made, tmp_path / kind

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_shows_what_its_own_library_computes(
    save: Callable[[str], tuple[Any, Path]], kind: str
) -> None:
    theirs, folder = save(kind)
    subject = open_huggingface(f"hf:{folder}", device=CPU)
    images = torch.randn(2, 3, 32, 32)
    *layers, output = subject.observe(images, {"used", *({"features", "logits"} & subject.shows)})
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        expected = theirs(images, output_attentions=True)
    for layer, attention in zip(layers, expected.attentions, strict=True):
        torch.testing.assert_close(layer.used, attention)
        assert layer.class_index == KINDS[kind][4]
        assert layer.image_tokens == slice(KINDS[kind][3], KINDS[kind][3] + 16)
    found, wanted = output.features, expected.get("pooler_output")
    if kind == "vit_head":
        found, wanted = output.logits, expected.logits
        assert subject.describe()["class_names"] == [f"LABEL_{number}" for number in range(5)]
    torch.testing.assert_close(found, wanted)
    assert subject.transform.describe()["interpolation"] == "bilinear"
    assert subject.transform.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov3", "siglip"])
def test_positions_follow_the_image_size(
    save: Callable[[str], tuple[Any, Path]], kind: str
) -> None:
    subject = open_huggingface(f"hf:{save(kind)[1]}", device=CPU, image_size=48)
    assert subject.describe()["tokens"]["image"] == 36


def test_a_folder_without_the_poolers_weights_has_the_class_tokens_features(
    save: Callable[[str], tuple[Any, Path]],
) -> None:
    theirs, folder = save("vit")
    bare = {name: value for name, value in theirs.state_dict().items() if "pooler" not in name}
    theirs.save_pretrained(folder, state_dict=bare)
    subject = open_huggingface(f"hf:{folder}", device=CPU)
    images = torch.randn(2, 3, 32, 32)
    (output,) = subject.observe(images, {"features"})
    with torch.no_grad():
        torch.testing.assert_close(output.features, theirs(images).last_hidden_state[:, 0])
    partial = {name: value for name, value in bare.items() if "layernorm.weight" not in name}
    theirs.save_pretrained(folder, state_dict=partial)
    with pytest.raises(
        CheckpointError, match=r"weights do not fit ViTModel: missing \d+ \(layernorm"
    ):
        open_huggingface(f"hf:{folder}", device=CPU)


def test_what_is_no_folder_of_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        open_huggingface(f"hf:{tmp_path}", device=CPU)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(CheckpointError, match=r"has no \.safetensors"):
        open_huggingface(f"hf:{tmp_path}", device=CPU)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": {"height": 224, "width": 224}, "resample": 3}, ("warp", None, "bicubic")),
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224}, "do_center_crop": True},
            ("short-side", 256, "bilinear"),
        ),
        ({"size": 256, "crop_size": 224, "do_center_crop": True}, ("short-side", 256, "bilinear")),
    ],
)
def test_the_transform_is_the_folders_own(
    tmp_path: Path, settings: dict[str, Any], expected: tuple[str, int | None, str]
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    transform, assumed = transform_of(tmp_path, {}, "model", None)
    described = transform.describe()
    found = tuple(described[name] for name in ("resize", "short_side", "interpolation"))
    assert (found, described["image_size"], assumed) == (expected, 224, [])


def test_a_transform_that_is_not_ours_is_refused_and_a_missing_one_is_assumed(
    tmp_path: Path,
) -> None:
    transform, (assumed,) = transform_of(tmp_path, {"image_size": 48}, "model", None)
    assert transform.image_size == 48
    assert "preprocessor_config.json" in str(assumed)
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 1}')
    with pytest.raises(SubjectError, match="resampling 1 is not among ours"):
        transform_of(tmp_path, {}, "model", None)
