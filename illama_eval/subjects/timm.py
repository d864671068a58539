"""Models of timm as subjects: ViT and DeiT as our own model, others with logits and features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from illama.checkpoint.weights import adopt, sha256_of_weights
from illama.files import CheckpointError, first_line
from illama.model import Model
from illama.observation import OutputSeen, Piece
from illama.transforms import Transform
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import DTYPES, Dtype, Preprocess, SubjectError
from illama_eval.subjects.timm_models import PREFIX, make, transform_of

TOLERANCE = 1e-5
"""Largest difference of our logits from timm's, relative to the largest logit, in fp32."""
PROBED = 2
"""Random images on which our logits and timm's are compared."""
LIVE = 3
"""Activations of the largest size that exist at a time."""
_LONGEST = 120


@dataclass(frozen=True, kw_only=True)
class TimmSubject:
    """A model of timm that is not a plain ViT: it shows logits and features only."""

    name: str
    model: nn.Module
    classes: int
    device: torch.device
    transform: Transform
    largest: int
    """Numbers in its largest activation of one image."""
    dtype: Dtype = "fp32"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    shows: ClassVar[frozenset[str]] = frozenset({"logits", "features"})

    @property
    def prepare(self) -> Transform:
        """The model's evaluation transform."""
        return self.transform

    def observe(self, inputs: Tensor, wanted: Iterable[str]) -> Iterator[Piece]:
        """Yield logits and features [image, channel] of normalised images.

        Raises:
            SubjectError: attention or tokens are wanted.
        """
        names = frozenset(wanted)
        if names - self.shows:
            raise SubjectError(f"{self.name}: shows no {min(names - self.shows)}")
        images = inputs.to(DTYPES[self.dtype])
        if "features" not in names:
            yield OutputSeen(logits=self.model(images))
            return
        model: Any = self.model
        seen = model.forward_features(images)
        yield OutputSeen(
            logits=model.forward_head(seen) if "logits" in names else None,
            features=model.forward_head(seen, pre_logits=True),
        )

    def map_bytes(self, wanted: frozenset[str]) -> int:
        """Return the bytes of the largest activations that exist at a time."""
        del wanted
        return 4 * LIVE * self.largest

    def describe(self) -> dict[str, Any]:
        """Return name, provenance, precision and transform."""
        return {
            "name": self.name,
            **self.provenance,
            "dtype": self.dtype,
            "transform": self.transform.describe(),
        }


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
) -> ModelSubject | TimmSubject:
    """Return `timm:NAME` as a subject.

    A plain ViT or DeiT becomes our own model, which shows everything, if its logits equal timm's;
    any other shows logits and features, and its notes say why.

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
    expected, largest = _run(model, made.model, native)
    own, notes = _as_ours(made.model, expected, native, transform.image_size)
    if own is None and transform.image_size != native:
        expected, largest = _run(model, made.model, transform.image_size)
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
    weighed.to(device, DTYPES[dtype])
    if own is not None:
        if compiled:
            own.compile_paths()
        return ModelSubject(model=own, **shared)
    if compiled:
        made.model.compile()
    return TimmSubject(
        model=made.model, classes=expected.shape[1], device=device, largest=largest, **shared
    )


def _probe(size: int) -> Tensor:
    """Return two random images, [image, 3, row, column]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(PROBED, 3, size, size, generator=generator)


def _run(name: str, model: nn.Module, size: int) -> tuple[Tensor, int]:
    """Return the logits of two random images, and the numbers in the largest activation of one.

    Raises:
        SubjectError: the model does not run at this size, or its output is not logits.
    """
    sizes = [0]

    def note(_module: object, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() // PROBED)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            logits = model(_probe(size))
    except Exception as error:
        raise SubjectError(
            f"{name}: does not run on {size} x {size} pixels ({first_line(error)})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2:  # noqa: PLR2004 - [image, class]
        raise SubjectError(f"{name}: its output is not one logit for each class; take a classifier")
    return logits, max(sizes)


def _as_ours(
    model: Any, expected: Tensor, native: int, image_size: int
) -> tuple[Model | None, tuple[str, ...]]:
    """Return our model with a ViT's weights and notes on them, or None and why not."""
    blocks = getattr(model, "blocks", None)
    heads = getattr(getattr(next(iter(blocks or ()), None), "attn", None), "num_heads", None)
    if not isinstance(heads, int):
        return None, ("attention is not seen: it is not built of a ViT's blocks",)
    build = partial(adopt, model.state_dict(), heads=heads)
    try:
        own, notes = build()
    except CheckpointError as refusal:
        return None, (f"attention is not seen: {_brief(str(refusal))}",)
    if own.config.image_size != native:
        return None, (f"attention is not seen: its patches do not tile {native} pixels",)
    with torch.no_grad():
        error = (own(_probe(native)) - expected).abs().max() / expected.abs().max()
    if not float(error) <= TOLERANCE:
        return None, (f"attention is not seen: as a plain ViT its logits are {error:.1e} off",)
    if image_size != native:
        own, notes = build(image_size=image_size)
    equal = f"run as our own model; its logits equal timm's to {float(error):.0e} of the largest"
    return own, (equal, *notes)


def _brief(text: str) -> str:
    text = text.partition(";")[0]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\N{HORIZONTAL ELLIPSIS}"
