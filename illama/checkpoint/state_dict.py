"""Where the weights are in a file: their key, averaged ones, and the prefixes of wrappers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from illama.files import CheckpointError

WEIGHTS = ("model", "state_dict", "model_state_dict")
"""Keys that are taken without asking, in this order."""
AVERAGED = (
    "model_ema",
    "state_dict_ema",
    "ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "averaged_model",
    "swa_model",
)
"""Keys of averaged weights."""
COUNTER = "n_averaged"
"""Weight of torch's AveragedModel that counts its updates."""
SHOWN = 10
"""Most names that an error message lists."""

_FEWEST = 4
"""Tensors of a dictionary that may be a model's; fewer are statistics of a loss."""
_INSIDE = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Of compiled, sharded and recomputed modules, anywhere in a name."""
_OUTSIDE = re.compile(r"^(module\.|backbone\.|model\.|net\.|network\.)+")
"""Of wrapped and nested models, in front of a name."""
_TOKEN = re.compile(r"(.*)\b(?:cls_token|class_token)")
TWICE = "has a weight under two names; save it again from one model"


def find_weights(
    payload: Mapping[str, Any], *, ema: bool = False, key: str | None = None
) -> tuple[str | None, dict[str, Tensor]]:
    """Return the key of the weights in an unpacked file, and the weights.

    Prefixes of wrapped, compiled or nested models are removed from the names. `key` chooses among
    several dictionaries of weights, or among models that are under prefixes in one of them.

    Raises:
        CheckpointError: there are no weights, or several and no `key`, or no averaged ones where
            `ema` is set.
    """
    found, raw = _choose(payload, ema=ema, key=key)
    state = {_INSIDE.sub("", name): tensor for name, tensor in raw.items()}
    if len(state) < len(raw):
        raise CheckpointError(TWICE)
    if COUNTER in state and not ema and key is None:
        raise CheckpointError("has averaged weights alone (torch's AveragedModel); pass --ema")
    state.pop(COUNTER, None)
    return found, _unwrap(state)


def averaged_keys(payload: Mapping[str, Any]) -> list[str]:
    """Return the keys of averaged weights in an unpacked file."""
    return [key for key in AVERAGED if isinstance(payload.get(key), Mapping)]


def _choose(
    payload: Mapping[str, Any], *, ema: bool, key: str | None
) -> tuple[str | None, Mapping[str, Tensor]]:
    """Return the key of the dictionary of weights, and the dictionary."""
    if key is not None:
        return key, _named(payload, key)
    if ema:
        return _averaged(payload)
    known = [key for key in WEIGHTS if isinstance(payload.get(key), Mapping)]
    if known:
        return known[0], _tensors(payload[known[0]], payload)
    if any(isinstance(value, Tensor) for value in payload.values()):
        return None, _tensors(payload, payload)
    candidates = [name for name, value in payload.items() if _is_weights(value)]
    if len(candidates) > 1:
        raise CheckpointError(
            f"has weights of several models under {_listed(candidates)}; choose one with --key"
        )
    if not candidates:
        raise CheckpointError(f"has no weights, only {_listed(payload)}; name another file")
    return candidates[0], payload[candidates[0]]


def _averaged(payload: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Tensor]]:
    """Return the key of the averaged weights, and these."""
    known = averaged_keys(payload)
    known = known or [key for key in WEIGHTS if COUNTER in _mapping(payload.get(key))]
    if known:
        return known[0], _tensors(payload[known[0]], payload)
    if COUNTER not in payload:
        raise CheckpointError("has no averaged weights (model_ema); leave out --ema")
    return None, _tensors(payload, payload)


def _named(payload: Mapping[str, Any], key: str) -> Mapping[str, Tensor]:
    """Return the weights under a key of the file, or under a prefix of its weights."""
    if isinstance(payload.get(key), Mapping):
        return _tensors(payload[key], payload)
    holders = [payload, *(payload[name] for name in WEIGHTS if name in payload)]
    for holder in holders:
        inside = _INSIDE.sub("", key)
        named = {_INSIDE.sub("", str(name)): each for name, each in _mapping(holder).items()}
        named = {re.sub(r"^module\.", "", name): each for name, each in named.items()}
        chosen = {
            name.removeprefix(f"{inside}."): each
            for name, each in named.items()
            if name.startswith(f"{inside}.")
        }
        if chosen:
            return _tensors(chosen, payload)
    candidates = [name for name, value in payload.items() if _is_weights(value)]
    raise CheckpointError(
        f"has no weights under --key {key}; it has {_listed(candidates or payload)}"
    )


def _tensors(state: Mapping[str, Any], within: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a file's dictionary of weights, which has nothing but tensors under names."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"has no weights, only {_listed(state or within)}; name another file")
    if len(tensors) < len(state):
        name, value = next((n, v) for n, v in state.items() if not isinstance(v, Tensor))
        raise CheckpointError(f"entry {name!r} is a {type(value).__name__}, not a tensor")
    if not all(isinstance(name, str) for name in tensors):
        raise CheckpointError(
            "has names of weights that are not text; save it again with plain names"
        )
    return tensors


def _unwrap(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without the prefixes of wrappers, or refuse several models."""
    plain = {_OUTSIDE.sub("", name): tensor for name, tensor in state.items()}
    if len(plain) < len(state):
        raise CheckpointError(_several(state) or TWICE)
    models = _models_in(plain)
    if len(models) > 1:
        raise CheckpointError(_several(plain) or TWICE)
    prefix = next(iter(models), "")
    return {name.removeprefix(prefix): tensor for name, tensor in plain.items()}


def _models_in(state: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes under which a transformer's class token and first block are."""
    found = dict.fromkeys(match[1] for name in state if (match := _TOKEN.fullmatch(name)))
    return [each for each in found if any(name.startswith(f"{each}blocks.0.") for name in state)]


def _several(state: Mapping[str, Tensor]) -> str:
    """Return the message about several models in one dictionary; empty where there is one."""
    models = [re.sub(r"^module\.", "", each).rstrip(".") for each in _models_in(state)]
    if len(models) < 2:  # noqa: PLR2004 - several
        return ""
    return f"has weights of several models under {_listed(models)}; choose one with --key"


def _is_weights(value: object) -> bool:
    """Return whether a value may be a model's dictionary of weights."""
    return (
        isinstance(value, Mapping)
        and len(value) >= _FEWEST
        and all(isinstance(each, Tensor) for each in value.values())
        and all(isinstance(name, str) for name in value)
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(names: object) -> str:
    shown = [repr(name) for name in list(names)[:SHOWN]]  # type: ignore[call-overload]
    return ", ".join(shown) or "nothing"
