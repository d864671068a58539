"""Checkpoint formats: weight names of released, timm and our files, and the config they imply."""

from __future__ import annotations

import itertools
import json
import math
import re
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from illama.checkpoint.foreign import TIMM, recognise_model
from illama.checkpoint.heads import Family, published_heads
from illama.checkpoint.state_dict import SHOWN, TWICE, find_weights
from illama.checkpoint.vit import check_args, fold, has_layer_scale
from illama.config import SIZES, Config, Mlp
from illama.files import CheckpointError

KEYS: tuple[tuple[str, str, Mlp | None], ...] = (
    ("patch_embedding", "patch_embed.proj", None),
    ("class_token", "cls_token", None),
    ("position_embedding", "pos_embed", None),
    ("attention_norm", "norm1", None),
    ("attention.qkv", "attn.qkv", None),
    ("attention.projection", "attn.proj", None),
    ("feed_forward_norm", "norm2", None),
    ("feed_forward.gate", "mlp.fc1", "swiglu"),
    ("feed_forward.up", "mlp.fc3", "swiglu"),
    ("feed_forward.up", "mlp.fc1", "gelu"),
    ("feed_forward.down", "mlp.fc2", None),
)
"""Our name, the name in released iLLaMA and timm ViT files, and the feed-forward it belongs to.

Names lack the block number and `.weight` or `.bias`; `norm` and `head` are the same.
"""

MOST_VALUES = 10_000
"""Values of a file's arguments after which no further list or dictionary is expanded."""

_NAME = re.compile(r"(blocks\.\d+\.)?(.+?)(\.weight|\.bias)?")


ASSUMED = {"what", "value", "because", "option"}
"""Fields of an assumption in a file."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The weights of a file under our names, and what the file records about them."""

    key: str | None
    """Their key in the file; None: at the top level."""
    state: Mapping[str, Tensor]
    official: bool
    """Whether the file uses the released names."""
    config: Mapping[str, Any] | None
    """Our own record of the architecture."""
    soft_mask: float | None
    """Our own record of the soft mask to run with."""
    args: dict[str, Any]
    """The arguments of the training, as JSON."""
    epoch: int | None
    class_names: tuple[str, ...] | None = None
    """Our own record of the names of the classes 0, 1, ..."""
    transform: Mapping[str, Any] | None = None
    """Our own record of the evaluation transform, without its size."""
    family: Family = "other"
    """By the names of the weights; decides what published models tell."""
    assumptions: tuple[Mapping[str, str], ...] = ()
    """Our own record of what an earlier file did not say and was assumed."""
    notes: tuple[str, ...] = ()
    """What was changed to convert a ViT's weights to ours, in sentences."""


def find(
    payload: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    ema: bool = False,
    key: str | None = None,
) -> Found:
    """Return weights, arguments and epoch of an unpacked file.

    Raises:
        CheckpointError: there are no weights, or several and no `key`, or no averaged ones where
            `ema` is set; or they are those of another family of models.
    """
    key, state = find_weights(payload, ema=ema, key=key)
    foreign = recognise_model(state)
    if foreign is not None:
        raise CheckpointError(foreign)
    mlp: Mlp = "swiglu" if any(".mlp.fc3." in name for name in state) else "gelu"
    ours = {translate(name, mlp): state[name] for name in state}
    if len(ours) < len(state):
        raise CheckpointError(TWICE)
    official = "cls_token" in state
    family = _family_of(ours, mlp)
    notes: tuple[str, ...] = ()
    if official and mlp == "gelu":
        ours, notes = fold(ours)
    header = payload if key is not None else metadata
    args = header.get("args")
    args = jsonable(vars(args) if isinstance(args, Namespace) else args or {})
    args = args if isinstance(args, dict) else {"args": args}
    config = _parse(args.pop("illama_config", None) or metadata.get("config"))
    if config is None and family.startswith("ViT"):
        check_args(args)
    epoch = header.get("epoch")
    return Found(
        key=key,
        state=ours,
        official=official,
        config=config,
        soft_mask=_number(args.pop("illama_soft_mask", metadata.get("soft_mask"))),
        args=args,
        epoch=epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None,
        class_names=_read_class_names(
            args.pop("illama_class_names", metadata.get("class_names")), ours
        ),
        transform=_parse(
            args.pop("illama_transform", None) or metadata.get("transform"), "illama_transform"
        ),
        family=family,
        assumptions=_read_assumptions(
            args.pop("illama_assumptions", None) or metadata.get("assumptions")
        ),
        notes=notes,
    )


def _family_of(state: Mapping[str, Tensor], mlp: Mlp) -> Family:
    """Return the family whose published models may tell what shapes do not."""
    scaled = "norm.bias" not in state
    if mlp == "swiglu" or "blocks.0.feed_forward.gate.weight" in state:
        return "iLLaMA" if scaled else "other"
    if scaled:
        return "other"
    return "ViT with layer scale" if has_layer_scale(state) else "ViT"


def translate(name: str, mlp: Mlp) -> str:
    """Return our name of a weight in a released or ViT file; other names come back unchanged."""
    return _rename(name, {theirs: ours for ours, theirs, only in KEYS if only in (None, mlp)})


def to_official(name: str, mlp: Mlp) -> str:
    """Return the released name of one of our weights."""
    return _rename(name, {ours: theirs for ours, theirs, only in KEYS if only in (None, mlp)})


def _rename(name: str, table: Mapping[str, str]) -> str:
    match = _NAME.fullmatch(name)
    if match is None:
        return name
    block, part, kind = match.groups(default="")
    return f"{block}{table.get(part, part)}{kind}"


def config_of(found: Found, *, heads: int | None, image_size: int | None) -> Config:
    """Return the architecture: from our own record, or else from shapes and family.

    Raises:
        CheckpointError: the shapes are not those of a vision transformer, or are ambiguous.
    """
    shapes = _read_shapes(found.state)
    heads = own_heads(found) if heads is None else heads
    if heads is None:
        heads, _ = published_heads(found.family, shapes["width"], shapes["depth"])
    if found.config is not None:
        config = Config.from_dict({**found.config, "heads": heads})
        for field, value in shapes.items():
            if getattr(config, field) != value:
                raise CheckpointError(
                    f"its config has {field} {getattr(config, field)}, its weights have {value}; "
                    "it was changed by hand"
                )
    else:
        size = _image_size(found, shapes["patch_size"], image_size)
        fields = {**shapes, **_family(found.state), "heads": heads, "image_size": size}
        config = Config.from_dict(fields)
    return config


def _read_shapes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the fields of Config that are shapes."""
    for name, dimensions in (("class_token", 3), ("patch_embedding.weight", 4), ("head.weight", 2)):
        if name not in state or state[name].ndim != dimensions:
            raise CheckpointError(_not_ours(name, state))
    blocks = {int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d{1,9}\.", name)}
    missing = sorted(set(range(len(blocks))) - blocks)
    if missing or not blocks:
        raise CheckpointError(f"block {missing[0] if missing else 0} is missing")
    return {
        "width": state["class_token"].shape[-1],
        "patch_size": state["patch_embedding.weight"].shape[-1],
        "classes": state["head.weight"].shape[0],
        "depth": len(blocks),
    }


def _not_ours(name: str, state: Mapping[str, Tensor]) -> str:
    """Return what is wrong with weights that lack one of those that every model of ours has."""
    if name == "head.weight" and name not in state:
        return f"is a ViT without a head ({name} is missing), which has features only; {TIMM}"
    missing = f"{to_official(name, 'gelu')} is missing or misshapen"
    return f"is not an iLLaMA or ViT: {missing}; it has {listed(state)}; another model: {TIMM}"


def own_heads(found: Found) -> int | None:
    """Return the number of attention heads that the file itself states."""
    stored = (found.config or {}).get("heads", found.args.get("num_heads"))
    return stored if isinstance(stored, int) and not isinstance(stored, bool) else None


def _family(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the fields of Config that are choices: the released form, or ViT's."""
    gated = "blocks.0.feed_forward.gate.weight" in state
    scaled = "norm.bias" not in state
    choices = {"mlp": "swiglu" if gated else "gelu", "norm": "rms" if scaled else "layer"}
    if not (gated and scaled):
        return {**choices, "masking": "none", "class_token": "first", "position": "learned"}
    position = "both" if "position_embedding" in state else "rotary"
    return {**choices, "masking": "multiplicative", "class_token": "last", "position": position}


def _image_size(found: Found, patch: int, image_size: int | None) -> int:
    """Return the input size from the position table, or else from the arguments."""
    table = found.state.get("position_embedding")
    if table is None:
        size = found.args.get("input_size") if image_size is None else image_size
        if not isinstance(size, int):
            raise CheckpointError(
                "has no position table that gives its image size; pass --image-size"
            )
        return size
    grid = math.isqrt(max(table.shape[1] - 1, 0)) if table.ndim == 3 else 0  # noqa: PLR2004 - [1, token, channel]
    if grid**2 + 1 != (table.shape[1] if grid else 0):
        raise CheckpointError(
            f"its position table {list(table.shape)} is not a square grid and a class token"
        )
    return grid * patch


def implied_soft_mask(found: Found) -> float:
    """Return the soft mask at the start of the saved epoch, as the training's arguments imply.

    The released code never stores it. `mask_mode standard` keeps it at `soft_mask` throughout;
    otherwise it falls to 0 at epoch `cutoff_soft`, at once or linearly (released code).
    """
    start, cutoff = _number(found.args.get("soft_mask")), _number(found.args.get("cutoff_soft"))
    mode = found.args.get("mask_mode")
    if not start or mode is None:
        return 0.0
    if mode == "standard":
        return start
    if found.epoch is None or cutoff is None or found.epoch >= cutoff:
        return 0.0
    linear = found.args.get("mask_schedule") == "linear"
    return start * (1 - found.epoch / cutoff) if linear else start


def published_size(config: Config) -> str | None:
    """Return the name of the published size with this width and depth."""
    for name, size in SIZES.items():
        if (size["width"], size["depth"]) == (config.width, config.depth):
            return name
    return None


def listed(names: Iterable[str]) -> str:
    """Return the first names and how many there are, on one line."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return f"{len(every)} ({', '.join(every[:SHOWN])}{more})"


def jsonable(value: object, depth: int = 4, counter: Iterator[int] | None = None) -> Any:
    """Return a value in JSON types; anything else becomes the name of its type.

    Depth and size are bounded, because lists can contain each other many times.
    """
    counter = counter or itertools.count()
    position = next(counter)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth and position < MOST_VALUES:
        if isinstance(value, Mapping):
            return {str(k): jsonable(item, depth - 1, counter) for k, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [jsonable(item, depth - 1, counter) for item in value]
    return f"<{type(value).__name__}>"


def _read_class_names(stored: object, state: Mapping[str, Tensor]) -> tuple[str, ...] | None:
    """Return our stored names of the head's classes."""
    names = json.loads(stored) if isinstance(stored, str) else stored
    if names is None or "head.weight" not in state:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError("its class names are not a list of texts; it was changed by hand")
    return check_class_names(names, len(state["head.weight"]))


def check_class_names(names: Sequence[str], classes: int) -> tuple[str, ...]:
    """Return the names of the head's classes.

    Raises:
        CheckpointError: there is not one name of its own for each class.
    """
    if len(names) != classes or len(set(names)) < classes:
        raise CheckpointError(
            f"{len(names)} class names, {len(set(names))} of them different, for {classes} classes;"
            " give each class one name of its own"
        )
    return tuple(names)


def _parse(record: object, name: str = "illama_config") -> Mapping[str, Any] | None:
    """Return a stored record of ours as a dictionary."""
    if isinstance(record, str):
        record = json.loads(record)
    if record is not None and not isinstance(record, dict):
        raise CheckpointError(f"its {name} is not a dictionary; it was changed by hand")
    return record


def _read_assumptions(record: object) -> tuple[Mapping[str, str], ...]:
    """Return our own record of what was assumed.

    Raises:
        CheckpointError: it is not a list of plain words by name.
    """
    if isinstance(record, str):
        record = json.loads(record)
    given = record if isinstance(record, list) else [] if record is None else [record]
    for each in given:
        words = each.values() if isinstance(each, dict) and each.keys() == ASSUMED else [None]
        if not all(isinstance(word, str) and word.isprintable() for word in words):
            raise CheckpointError("its illama_assumptions are no words; it was changed by hand")
    return tuple(given)


def _number(value: object) -> float | None:
    """Return a plain number as a float, anything else as None."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
