"""Loading checkpoints: released iLLaMA files, our own, and ViT or DeiT files.

model = illama.load("illama-tiny-in1k-75.0.pth")
logits = model(images)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from illama.arithmetic import use_exact_products
from illama.checkpoint.archive import Archive, unpack
from illama.checkpoint.assumptions import (
    Assumption,
    Override,
    architecture_assumptions,
    overrides_of,
    prepare_transform,
    remembered_assumptions,
    stated_soft_mask,
)
from illama.checkpoint.checksums import check_checksum, sha256_of_weights
from illama.checkpoint.formats import Found, config_of, find
from illama.checkpoint.quantized import install, published_rows, unpack_weights
from illama.checkpoint.quantized_weight import QuantizedWeight
from illama.checkpoint.released import identify
from illama.checkpoint.state_dict import averaged_keys
from illama.checkpoint.weights import fill, prepare
from illama.complexity import causal_macs, macs, parameters, parameters_as_published
from illama.config import Config, Masking
from illama.files import CheckpointError, about
from illama.model import Model
from illama.preprocessing import TransformOptions
from illama.transforms import Transform

Layout = Literal[
    "official .pth",
    "bare state dict",
    "illama .pth",
    "illama .safetensors",
    "illama quantized .safetensors",
    "ViT",
]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded checkpoint with its provenance."""

    path: Path
    model: Model
    """On the requested device, in fp32, in evaluation mode."""
    soft_mask: float
    """The soft mask to run the model with: `model(images, soft_mask)`."""
    sha256: str
    """Of the loaded weights: names, shapes, types and bytes."""
    file_sha256: str
    bytes: int
    """Size of the file."""
    layout: Layout
    key: str | None
    """Key of the weights in the file, such as `model` or `model_ema`; None: at the top level."""
    epoch: int | None
    args: dict[str, Any]
    """The arguments of the training, as JSON."""
    released: str | None
    """Name of the published file that this is, bit for bit."""
    transform: Transform
    """The evaluation transform, for the model's image size."""
    assumptions: tuple[Assumption, ...]
    """What the file does not say, as it is taken."""
    overrides: tuple[Override, ...]
    """What the file says and the caller changed."""
    notes: tuple[str, ...]
    """What a reader of the results should know, in sentences."""
    class_names: tuple[str, ...] | None = None
    """The names of the classes 0, 1, ..., if the file has them."""
    quantization: Mapping[str, Any] | None = None
    """Of a quantized file: scheme, layers, what they were made from. The model then runs torchao's
    tensors."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the weights in JSON types, with size and cost of the model."""
        config = self.model.config
        names = [field.name for field in fields(self) if field.name != "model"]
        return {name: getattr(self, name) for name in names} | {
            "path": str(self.path),
            "notes": list(self.notes),
            "class_names": None if self.class_names is None else list(self.class_names),
            "transform": self.transform.describe(),
            "assumptions": [each.to_dict() for each in self.assumptions],
            "overrides": [each.to_dict() for each in self.overrides],
            "config": config.to_dict(),
            "parameters": parameters(config),
            "parameters_as_published": parameters_as_published(config),
            "macs": macs(config),
            "causal_macs": causal_macs(config),
        }


AS_STORED = TransformOptions()
"""No option of the transform is given."""


def load(
    path: str | Path,
    *,
    image_size: int | None = None,
    heads: int | None = None,
    soft_mask: float | None = None,
    masking: Masking | None = None,
    ema: bool = False,
    key: str | None = None,
    device: str | torch.device = "cpu",
) -> Model:
    """Return the model of a checkpoint, in evaluation mode, so that `model(images)` is right.

    A model stores no soft mask. A checkpoint to be run with soft mask 1 is bidirectional, and is
    returned with `masking="none"`, the same function. For a soft mask between 0 and 1 use
    `read_checkpoint`, and run `checkpoint.model(images, checkpoint.soft_mask)`. The arguments are
    those of `read_checkpoint`.

    Raises:
        CheckpointError: as `read_checkpoint`; or the soft mask is between 0 and 1.
    """
    same: dict[str, Any] = {"image_size": image_size, "heads": heads, "ema": ema, "key": key}
    same["device"] = device
    checkpoint = read_checkpoint(path, soft_mask=soft_mask, masking=masking, **same)
    if checkpoint.soft_mask == 0:
        return checkpoint.model
    if checkpoint.soft_mask < 1:
        raise CheckpointError(
            f"{path}: runs with soft_mask={checkpoint.soft_mask}, which model(images) would not "
            "apply; use read_checkpoint of illama.checkpoint.load and model(images, soft_mask), or "
            "pass 0 or 1"
        )
    return read_checkpoint(path, masking="none", **same).model


def read_checkpoint(
    path: str | Path,
    *,
    image_size: int | None = None,
    heads: int | None = None,
    soft_mask: float | None = None,
    masking: Masking | None = None,
    ema: bool = False,
    key: str | None = None,
    transform: TransformOptions = AS_STORED,
    device: str | torch.device = "cpu",
) -> Checkpoint:
    """Return the model of a checkpoint with its provenance.

    Args:
        path: a released `.pth`, a bare state dict, a timm ViT or DeiT file, or our own `.pth` or
            `.safetensors`; recognised by content. A file without our config is read as the
            released form: multiplicative mask, class token last, soft mask 0.
        image_size: pixels; positions are resized if the checkpoint has another size.
        heads: attention heads, where neither the file nor its family determines them.
        soft_mask: 0 to 1; needed only if, by the file's arguments, the saved weights were trained
            with one above 0.
        masking: run the weights with another masking than their own.
        ema: take the averaged weights (`model_ema`).
        key: which weights to take, where a file has those of several models.
        transform: what of the evaluation transform is to be other than stored or implied.
        device: device of the model.

    Raises:
        CheckpointError: the file is missing, damaged, hostile or not a checkpoint of this family,
            its content does not fit, or it does not determine how to run the model.
    """
    path = Path(path)
    use_exact_products(device)
    with about(path):
        archive = unpack(path)
        payload, packed = _unpack_weights(archive)
        found = find(payload, archive.metadata, ema=ema, key=key)
        _check_record(archive, found)
        released = identify(archive.sha256)
        known = released is not None
        own = config_of(found, heads=heads, image_size=image_size)
        config = own if image_size is None else own.with_image_size(image_size)
        config = config if masking is None else replace(config, masking=masking)
        alpha = _soft_mask(found, config, soft_mask, released=known)
        state = prepare(found, own, config)
        model = fill(config, state, device)
        _install(model, packed)
        prepared = prepare_transform(found, config.image_size, transform, released=known)
        assumed = () if known else architecture_assumptions(found, own, heads)
        given = {"heads": heads, "masking": masking, **transform.given()}
        told = {f"--{name}" for name, value in given.items() if value is not None}
        remembered = remembered_assumptions(found, told)
        changed = overrides_of(found, heads=heads, soft_mask=soft_mask, released=known)
    return Checkpoint(
        path=path,
        model=model,
        soft_mask=alpha,
        sha256=sha256_of_weights(archive.payload if packed else state),
        file_sha256=archive.sha256,
        bytes=archive.bytes,
        layout=_layout(archive, found, config),
        key=found.key,
        epoch=found.epoch,
        args=found.args,
        released=released.name if released else None,
        transform=prepared.transform,
        assumptions=(*remembered, *assumed, *prepared.assumptions),
        overrides=(*changed, *prepared.overrides),
        notes=tuple(_notes(archive, found, own, config)),
        class_names=found.class_names,
        quantization=archive.metadata.get("quantization"),
    )


def _unpack_weights(archive: Archive) -> tuple[Mapping[str, Any], dict[str, QuantizedWeight]]:
    """Return a classifier's weights in floating point, and its quantized ones if it has any."""
    if "segmenter" in archive.metadata:
        raise CheckpointError(
            "is a segmenter, which does not classify images; measure it with `illama-eval segment`"
        )
    record = archive.metadata.get("quantization")
    if record is None:
        return archive.payload, {}
    if not isinstance(record, dict):
        raise CheckpointError("its record of quantization is not a dictionary; it is damaged")
    return unpack_weights(archive.payload, record)


def _install(model: Model, packed: Mapping[str, QuantizedWeight]) -> None:
    """Put a file's quantized weights into the model, rows in the order in memory."""
    ordered = {}
    for name, weight in packed.items():
        order = published_rows(model, name)
        ordered[name] = weight if order is None else weight.rows(order)
    install(model, ordered)


def _check_record(archive: Archive, found: Found) -> None:
    """Compare the checksum of our own safetensors files; the format itself has none."""
    if not archive.metadata:
        if archive.container == "safetensors" and not found.official:
            raise CheckpointError(
                "has weights of illama's names but no record of their architecture; write it with "
                "save_checkpoint of illama.checkpoint.save"
            )
        return
    check_checksum(archive.metadata, archive.payload)


def _soft_mask(found: Found, config: Config, requested: float | None, *, released: bool) -> float:
    """Return the soft mask to run with, or raise where it is not certain."""
    if requested is not None and not 0 <= requested <= 1:
        raise CheckpointError(f"--soft-mask {requested:g}: give a number from 0 to 1")
    if config.masking != "multiplicative":
        if requested:
            raise CheckpointError(
                f"--soft-mask {requested:g} is defined for the masking multiplicative only, not "
                f"{config.masking}"
            )
        return 0.0
    if requested is not None:
        return float(requested)
    if found.soft_mask is not None:
        return found.soft_mask
    implied = stated_soft_mask(found, released=released)
    if implied:
        raise CheckpointError(
            f"by its args it was trained with soft mask {implied:.3g} up to its last epoch, "
            f"so running it causally would be wrong; pass --soft-mask {implied:.3g} "
            "(or 0 to insist)"
        )
    return 0.0


def _layout(archive: Archive, found: Found, config: Config) -> Layout:
    """Return the file's layout."""
    if "quantization" in archive.metadata:
        return "illama quantized .safetensors"
    if found.config is not None:
        return "illama .safetensors" if archive.container == "safetensors" else "illama .pth"
    if config.class_token == "first":
        return "ViT"
    return "bare state dict" if found.key is None else "official .pth"


def _notes(archive: Archive, found: Found, own: Config, config: Config) -> Iterator[str]:
    """Yield what a reader of the results should know."""
    yield from found.notes
    yield from _notes_on_file(archive, found)
    if found.config is None and own.masking == "multiplicative":
        yield "no config in the file: taken as the released form"
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in found.state.values()}
    if types != {"float32"}:
        yield f"stored as {', '.join(sorted(types))}, run in float32"
    if config.image_size != own.image_size:
        yield f"positions resized from {own.image_size} to {config.image_size} pixels"
    if config.masking != own.masking:
        yield f"run with masking {config.masking!r}, not its own {own.masking!r}"


def _notes_on_file(archive: Archive, found: Found) -> Iterator[str]:
    """Yield what is to be known about the file itself."""
    averaged = [key for key in averaged_keys(archive.payload) if key != found.key]
    if averaged:
        yield f"averaged weights are there, too ({averaged[0]}); --ema takes them"
    if archive.container == "legacy":
        yield "legacy format without checksums: its contents cannot be verified"
    if archive.container == "safetensors" and not archive.metadata:
        yield "no checksum in the file: its contents cannot be verified"
    if "quantization" in archive.metadata:
        record = archive.metadata["quantization"]
        base = (record.get("base") or {}).get("file")
        made = f"quantized after training: {record.get('scheme')}, {len(record['layers'])} layers"
        yield made + (f", from {base}" if base else "")
