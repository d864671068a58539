"""Models of timm as subjects: a plain ViT or DeiT as our own model, others as they are."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from illama.arithmetic import DTYPES
from illama.checkpoint.checksums import sha256_of_weights
from illama.checkpoint.weights import adopt
from illama.config import Dtype
from illama.files import CheckpointError, first_line
from illama.model import Model
from illama.observation import OutputSeen
from illama.preprocessing import Preprocess
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.network import NetworkSubject, open_network, pool
from illama_eval.subjects.subject import SubjectError
from illama_eval.subjects.timm_models import PREFIX, make, resize_input, transform_of

TOLERANCE = 1e-5
"""Largest difference of our logits from timm's, relative to the largest logit, in fp32."""
PROBED = 2
"""Random images on which our logits and timm's are compared."""
_LONGEST = 120


def open_timm(
    model: str,
    weights: str,
    *,
    device: torch.device,
    dtype: Dtype = "fp32",
    preprocess: Preprocess = "model",
    image_size: int | None = None,
    ema: bool = False,
    compiled: bool = False,
) -> ModelSubject | NetworkSubject:
    """Return `timm:NAME` as a subject.

    A plain ViT or DeiT becomes our own model if its logits equal timm's, and can be finetuned and
    stored; any other runs as it is, and shows attention where that is proven.

    Args:
        model: `timm:` and a name that timm knows, with or without a tag.
        weights: a file, `pretrained` (timm's download, or its cache) or `random` (seed 0).
        device: where it runs.
        dtype: precision of weights and activations.
        preprocess: timm's own transform, or the paper's for calibration.
        image_size: pixels, instead of those in timm's record.
        ema: take the averaged weights of the file.
        compiled: compile the model; the first batch takes longer.

    Raises:
        SubjectError: timm is missing or broken, or does not know the model, or cannot run it.
        CheckpointError: the file is refused.
    """
    made = make(model, weights, ema=ema)
    transform = transform_of(model, made.settings, preprocess, image_size)
    native = int(made.settings["input_size"][-1])
    own, notes = _as_ours(model, made.model, native, transform.image_size)
    weighed = made.model if own is None else own
    shared: dict[str, Any] = {
        "name": model.removeprefix(PREFIX),
        "transform": transform,
        "dtype": dtype,
        "provenance": {
            **made.provenance,
            "weights_sha256": sha256_of_weights(weighed.state_dict()),
            "notes": list(notes),
            "preprocess": preprocess,
        },
    }
    if own is not None:
        own.to(device, DTYPES[dtype])
        if compiled and (note := own.compile_paths()):
            shared["provenance"]["notes"].append(note)
        return ModelSubject(model=own, **shared)
    if transform.image_size != native:
        resize_input(model, made.model, transform.image_size)
    subject = open_network(made.model.to(device), read_timm, device=device, **shared)
    if compiled:
        made.model.compile()
    return subject


def read_timm(model: Any, images: Tensor) -> OutputSeen:
    """Return logits, unless timm's model is headless, and what the head reads, pooled."""
    seen = model.forward_features(images)
    return OutputSeen(
        logits=model.forward_head(seen) if model.num_classes else None,
        features=pool(model.forward_head(seen, pre_logits=True)),
    )


def _as_ours(
    name: str, model: Any, native: int, image_size: int
) -> tuple[Model | None, tuple[str, ...]]:
    """Return our model with a plain ViT's weights and notes on them, or None and why not.

    Raises:
        SubjectError: the image size does not fit its patches.
    """
    blocks = getattr(model, "blocks", None)
    heads = getattr(getattr(next(iter(blocks or ()), None), "attn", None), "num_heads", None)
    if not isinstance(heads, int):
        return None, ()
    build = partial(adopt, model.state_dict(), heads=heads)
    try:
        own, notes = build()
    except CheckpointError as refusal:
        return None, (f"not run as a plain ViT: {_brief(str(refusal))}",)
    if own.config.image_size != native:
        return None, (f"not run as a plain ViT: its patches do not tile {native} pixels",)
    images = torch.randn(PROBED, 3, native, native, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        error = (own(images) - expected).abs().max() / expected.abs().max()
    if not float(error) <= TOLERANCE:
        return None, (f"not run as a plain ViT: its logits would be {error:.1e} off",)
    if image_size != native:
        try:
            own, notes = build(image_size=image_size)
        except ValueError as fault:
            size = f"{image_size} x {image_size} pixels"
            raise SubjectError(f"{name}: cannot take {size} ({first_line(fault)})") from fault
    equal = f"run as our own model; its logits equal timm's to {float(error):.0e} of the largest"
    return own, (equal, *notes)


def _brief(text: str) -> str:
    text = text.partition(";")[0]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\N{HORIZONTAL ELLIPSIS}"
