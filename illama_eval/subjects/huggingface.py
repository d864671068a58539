"""Models of Hugging Face from a local folder: config, safetensors, and preprocessor_config."""

from __future__ import annotations

import importlib
import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from illama.checkpoint.assumptions import Assumption
from illama.checkpoint.checksums import sha256_of_weights
from illama.checkpoint.formats import listed
from illama.config import Dtype
from illama.files import CheckpointError, first_line, sha256_of_file
from illama.preprocessing import Interpolation, Preprocess
from illama.transforms import CROP_RATIO, IMAGENET_MEAN, IMAGENET_STD, Transform
from illama_eval.subjects.network import NetworkSubject, open_network
from illama_eval.subjects.subject import SubjectError
from illama_eval.subjects.wrap import ReadModule, find_head

PREFIX = "hf:"
INTERPOLATIONS: Mapping[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which processors are stored with."""
POOLERS = ("pooler", "vision_model.head", "head")
"""Weights of a pooled output, which headless models are often stored without."""


def open_huggingface(
    model: str,
    *,
    device: torch.device,
    dtype: Dtype = "fp32",
    preprocess: Preprocess = "model",
    image_size: int | None = None,
    compiled: bool = False,
) -> NetworkSubject:
    """Return `hf:FOLDER` as a subject; nothing is downloaded and no code of the folder is run.

    Args:
        model: `hf:` and a folder with config.json and *.safetensors.
        device: where it runs.
        dtype: precision of weights and activations.
        preprocess: the folder's own transform, or the paper's for calibration.
        image_size: pixels, instead of those in the folder's config.
        compiled: compile the model; the first batch takes longer.

    Raises:
        SubjectError: transformers is missing, or the folder's model cannot be run.
        CheckpointError: a file is missing, or its weights do not fit.
    """
    folder = Path(model.removeprefix(PREFIX))
    config = _read_json(folder / "config.json")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder}: has no .safetensors; only these are read")
    transform, assumed = transform_of(folder, config, preprocess, image_size)
    network, pooled = _load(folder, config)
    if image_size is not None and _interpolates(network):
        network = _Resized(network)
    classes = int(getattr(network.config, "num_labels", 0)) if _has_head(config) else 0
    names = network.config.id2label
    subject = open_network(
        network.to(device),
        ReadModule(classes, find_head(network, classes), pooled=pooled),
        name=folder.resolve().name,
        transform=transform,
        device=device,
        dtype=dtype,
        provenance={
            "model": f"{PREFIX}{folder.resolve().name}",
            "architecture": type(network).__name__,
            "file": files[0].name,
            **({"file_sha256": sha256_of_file(files[0])} if len(files) == 1 else {}),
            "weights_sha256": sha256_of_weights(network.state_dict()),
            "class_names": [str(names[index]) for index in range(classes)] if classes else None,
            "preprocess": preprocess,
            "assumptions": [each.to_dict() for each in assumed],
        },
    )
    if compiled:
        network.compile()
    return subject


def transform_of(
    folder: Path, config: Mapping[str, Any], preprocess: Preprocess, image_size: int | None
) -> tuple[Transform, list[Assumption]]:
    """Return a folder's transform as ours, and what of it is assumed.

    Raises:
        SubjectError: it is of a kind that ours does not equal.
    """
    own = folder / "preprocessor_config.json"
    vision = config.get("vision_config", config)
    if not own.is_file():
        size = int(vision.get("image_size", 224)) if image_size is None else image_size
        assumed = Assumption(
            what="transform",
            value=f"{size} px, short side and centre crop, bicubic, ImageNet's mean and std",
            because="the lack of preprocessor_config.json",
            option="--crop and --mean",
        )
        return Transform(image_size=size, resize="short-side"), [assumed]
    given = _read_json(own)
    crops = bool(given.get("do_center_crop"))
    resized, cropped = _side(given.get("size")), _side(given.get("crop_size"))
    native = (cropped if crops else resized) or int(vision.get("image_size", 224))
    interpolation = INTERPOLATIONS.get(given.get("resample", 2))
    if interpolation is None:
        raise SubjectError(
            f"{PREFIX}{folder.name}: resampling {given['resample']} is not among ours, bicubic or "
            "bilinear; change preprocessor_config.json, or give --interpolation"
        )
    transform = Transform(
        image_size=native if image_size is None else image_size,
        resize="short-side" if crops else "warp",
        interpolation=interpolation,
        crop_ratio=native / resized if crops and resized else CROP_RATIO,
        mean=_colours(given.get("image_mean"), IMAGENET_MEAN),
        std=_colours(given.get("image_std"), IMAGENET_STD),
    )
    return transform.with_preprocess(preprocess), []


def _side(size: Any) -> int | None:
    """Return the pixels of a size as processors are stored with it: a number or a dictionary."""
    if isinstance(size, Mapping):
        found = size.get("shortest_edge") or size.get("height")
        return None if found is None else int(found)
    return None if size is None else int(size)


def _colours(
    given: Sequence[float] | None, otherwise: tuple[float, float, float]
) -> tuple[float, float, float]:
    if given is None:
        return otherwise
    red, green, blue = map(float, given)
    return red, green, blue


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        CheckpointError: there is none.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is no JSON object")
    return found


def _has_head(config: Mapping[str, Any]) -> bool:
    """Return whether a folder's model classifies images."""
    return any("ForImageClassification" in each for each in config.get("architectures") or ())


def _load(folder: Path, config: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return the model in evaluation mode, in float32, and whether it has the weights of a pooler.

    All other weights must be there.
    """
    transformers = _import_transformers(folder)
    if _has_head(config):
        kind = transformers.AutoModelForImageClassification
    elif config.get("model_type") in {"siglip", "siglip_vision_model"}:
        kind = transformers.SiglipVisionModel
    else:
        kind = transformers.AutoModel
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network, found = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
            )
    except Exception as error:  # damaged files and unknown models raise almost anything
        raise SubjectError(
            f"{PREFIX}{folder.name}: cannot be loaded ({first_line(error)})"
        ) from error
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(POOLERS))
    if missing or found["mismatched_keys"]:
        wrong = missing or sorted(str(each[0]) for each in found["mismatched_keys"])
        raise CheckpointError(
            f"{folder}: weights do not fit {type(network).__name__}: missing {listed(wrong)}"
        )
    return network.eval(), not found["missing_keys"]


def _interpolates(network: Any) -> bool:
    """Return whether a model interpolates its positions only when it is told to."""
    return "interpolate_pos_encoding" in inspect.signature(network.forward).parameters


def _import_transformers(folder: Path) -> Any:
    """Import transformers, or say in one line why it cannot be imported."""
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise SubjectError(
            f"{PREFIX}{folder.name}: {error.name} is not installed; pip install 'illama[hf]'"
        ) from error
    except Exception as error:
        raise SubjectError(
            f"{PREFIX}{folder.name}: transformers cannot be imported ({first_line(error)})"
        ) from error


class _Resized(nn.Module):
    """A model whose positions are interpolated to the size of its images."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.config = network, network.config

    def forward(self, images: Tensor) -> Any:
        """Return what the model returns, for images of any size that its patches tile."""
        return self.network(images, interpolate_pos_encoding=True)
