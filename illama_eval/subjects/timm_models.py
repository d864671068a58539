"""Models of timm with weights from a file, which is read safely; only this module imports timm."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from illama.checkpoint.archive import unpack
from illama.checkpoint.formats import listed
from illama.checkpoint.state_dict import find_weights
from illama.files import CheckpointError, about, first_line
from illama.preprocessing import Preprocess
from illama.suggestions import did_you_mean
from illama.transforms import Transform
from illama_eval.subjects.subject import SubjectError

PREFIX = "timm:"
RANDOM, PRETRAINED = "random", "pretrained"
"""Words for `--weights` instead of a file."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A model of timm with its weights, on the CPU, in evaluation mode."""

    model: nn.Module
    settings: Mapping[str, Any]
    """timm's record of the evaluation: input_size, crop_pct, crop_mode, interpolation, mean,
    std."""
    provenance: Mapping[str, Any]


def make(model: str, weights: str, *, ema: bool = False) -> Made:
    """Return the model `timm:NAME`.

    `weights` is a file, `pretrained` (timm's download, or its cache) or `random` (seed 0).

    Raises:
        SubjectError: timm is missing or broken, or does not know the model; or nothing can be
            downloaded.
        CheckpointError: the file is refused.
    """
    name = model.removeprefix(PREFIX)
    if not model.startswith(PREFIX) or not name:
        raise SubjectError(
            f"--model {model}: give timm:NAME, such as timm:deit3_base_patch16_224, or hf:FOLDER; "
            "a checkpoint of illama is an argument"
        )
    timm = _import_timm(model)
    _check_known(timm, name)
    with _quiet():
        found: dict[str, Any] = {}
        if weights == RANDOM:
            made = _draw(timm, name)
        elif weights == PRETRAINED:
            made, found = _download(timm, name)
        else:
            made, found = _read(timm, name, Path(weights), ema=ema)
        settings = timm.data.resolve_model_data_config(made)
    kind = weights if weights in {RANDOM, PRETRAINED} else "file"
    return Made(
        model=made.eval(),
        settings=settings,
        provenance={"model": model, "weights": kind, "timm": timm.__version__, **found},
    )


def transform_of(
    model: str, settings: Mapping[str, Any], preprocess: Preprocess, image_size: int | None
) -> Transform:
    """Return timm's evaluation transform as ours, or the paper's for calibration.

    Raises:
        SubjectError: timm's is of a kind that ours does not equal.
    """
    _, height, width = settings["input_size"]
    crops, ratio = settings["crop_mode"], float(settings["crop_pct"])
    fits = crops == "center" or (crops == "squash" and ratio == 1)
    if height != width or not fits or settings["interpolation"] not in {"bicubic", "bilinear"}:
        raise SubjectError(
            f"{model}: its evaluation transform ({height} x {width}, {crops} crop of {ratio}, "
            f"{settings['interpolation']}) is not among ours: square, short side and centre crop, "
            "bicubic or bilinear"
        )
    own = Transform(
        image_size=height if image_size is None else image_size,
        resize="short-side" if crops == "center" else "warp",
        interpolation=settings["interpolation"],
        crop_ratio=ratio,
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )
    return own.with_preprocess(preprocess)


def resize_input(model: str, made: Any, image_size: int) -> None:
    """Make a model take images of another size; timm resizes its positions, where it has any.

    Raises:
        SubjectError: the size does not fit its patches.
    """
    if not hasattr(made, "set_input_size"):
        return
    try:
        made.set_input_size(img_size=(image_size, image_size))
    except Exception as error:
        raise SubjectError(
            f"{model}: cannot take {image_size} x {image_size} pixels ({first_line(error)})"
        ) from error


def _import_timm(model: str) -> Any:
    """Import timm, or say in one line why it cannot be imported."""
    try:
        with _quiet():
            return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise SubjectError(
            f"{model}: {error.name} is not installed; pip install 'illama[timm]'"
        ) from error
    except Exception as error:  # a torchvision of another torch raises anything
        raise SubjectError(
            f"{model}: timm cannot be imported ({first_line(error)}); install a torch and a "
            "torchvision that belong together"
        ) from error


def _check_known(timm: Any, name: str) -> None:
    """Refuse names that are not in timm's own registry; no other hub is queried."""
    known = timm.list_models()
    if name.partition(".")[0] in known:
        return
    alike = [each for each in known if name in each]
    hint = did_you_mean(name, alike or known)
    raise SubjectError(f"{PREFIX}{name}: timm {timm.__version__} does not know this model{hint}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence timm's warnings, which are about its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _draw(timm: Any, name: str, **given: Any) -> Any:
    """Return the model with random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return timm.create_model(name, **given)
        except Exception as error:  # a tag that timm does not know, among others
            raise SubjectError(f"{PREFIX}{name}: {first_line(error)}") from error


def _download(timm: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """Return the model with timm's published weights, from the network or its cache."""
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # no network, no file, no published weights: all differ
        raise SubjectError(
            f"{PREFIX}{name}: its published weights cannot be loaded ({first_line(error)}); give a "
            "file with --weights FILE, or --weights random for untrained ones"
        ) from error
    record = model.pretrained_cfg
    return model, {key: record[key] for key in ("hf_hub_id", "url", "tag") if record.get(key)}


def _read(timm: Any, name: str, path: Path, *, ema: bool) -> tuple[Any, dict[str, Any]]:
    """Return the model with the weights of a file, strictly, and with as many classes."""
    model = _draw(timm, name)
    with about(path):
        archive = unpack(path)
        if archive.metadata:
            raise CheckpointError("is a file of illama's own; give it as an argument instead")
        key, state = find_weights(archive.payload, ema=ema)
        state, translated = _translate(state, model)
        classes = _classes(state, model)
        if classes not in {None, model.num_classes}:
            model = _draw(timm, name, num_classes=classes)
        _fill_weights(name, model, state)
    return model, {
        "file": path.name,
        "file_sha256": archive.sha256,
        "bytes": archive.bytes,
        "key": key,
        "names": "translated by timm" if translated else "timm's",
    }


def _translate(state: dict[str, Tensor], model: Any) -> tuple[dict[str, Tensor], bool]:
    """Return the weights under timm's names, translated by timm if they have others.

    A translation that changes how many numbers a weight has (timm resizes positions) is refused:
    the weights would no longer be the file's.
    """
    translate: Callable[..., Any] | None = getattr(
        sys.modules[type(model).__module__], "checkpoint_filter_fn", None
    )
    if set(state) == set(model.state_dict()) or translate is None:
        return state, False
    try:
        translated = dict(translate(dict(state), model))
    except Exception:  # noqa: BLE001 - not a file that it knows: the comparison of names says why
        return state, False
    for name, tensor in translated.items():
        if name in state and tensor.numel() != state[name].numel():
            raise CheckpointError(f"{name} is of another image size; take the model of that size")
    return translated, True


def _classes(state: Mapping[str, Tensor], model: Any) -> int | None:
    """Return the number of classes of the head in the file, if it is found by timm's name."""
    classifier = model.pretrained_cfg.get("classifier")
    name = classifier[0] if isinstance(classifier, tuple | list) else classifier
    weight = state.get(f"{name}.weight")
    return None if weight is None else len(weight)


def _fill_weights(name: str, model: Any, state: Mapping[str, Tensor]) -> None:
    """Fill every weight from the file, which must have no others."""
    wanted = model.state_dict()
    both = [each for each in wanted if each in state]
    faults = {
        "missing": [each for each in wanted if each not in state],
        "unexpected": [each for each in state if each not in wanted],
        "misshapen": [each for each in both if state[each].shape != wanted[each].shape],
        "not floating point": [
            each
            for each in both
            if state[each].is_floating_point() != wanted[each].is_floating_point()
        ],
        "not finite": [each for each in both if not state[each].isfinite().all()],
    }
    words = [f"{fault} {listed(names)}" for fault, names in faults.items() if names]
    if words:
        raise CheckpointError(f"weights do not fit {PREFIX}{name}: {', '.join(words)}")
    model.load_state_dict(state)
