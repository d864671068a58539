"""Loading weights into a model: checks of their names and shapes, resized positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from illama.checkpoint.formats import Found, config_of, find, listed, published_size, to_official
from illama.config import Config
from illama.files import CheckpointError
from illama.model import Model, resize_positions

LARGEST_SEQUENCE = 4097
"""Most tokens of a model: 1024 pixels at patch 16; a bound on hostile files."""


def prepare(found: Found, own: Config, config: Config) -> dict[str, Tensor]:
    """Return every weight in fp32, checked to be finite, at the image size of `config`.

    Raises:
        CheckpointError: a weight is missing, unexpected, of another shape, or not finite.
    """
    check_length(config)  # before positions of that many tokens are made
    wanted = dict(build(own).named_parameters())
    _check_names(found, own, wanted)
    taken: set[int] = set()
    state = {name: _plain(name, found.state[name], taken) for name in wanted}
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(f"weights are not finite in {listed(broken)}; use another checkpoint")
    table = state.get("position_embedding")
    if table is not None and config.grid != own.grid:
        state["position_embedding"] = resize_positions(table, own, config)
    return state


def _plain(name: str, tensor: Tensor, taken: set[int]) -> Tensor:
    """Return a weight in fp32; a copy where it shares its memory with anything else."""
    if not tensor.dtype.is_floating_point:
        raise CheckpointError(f"weight {name} is {tensor.dtype}, not floating point")
    plain = tensor.detach().to(torch.float32).contiguous()
    whole = plain.untyped_storage().nbytes() == plain.numel() * plain.element_size()
    if not whole or plain.data_ptr() in taken:
        return plain.clone()
    taken.add(plain.data_ptr())
    return plain


def _check_names(found: Found, config: Config, wanted: Mapping[str, Tensor]) -> None:
    """Refuse missing, unexpected and misshapen weights, by their names in the file."""
    state = found.state
    faults = {
        "missing": [name for name in wanted if name not in state],
        "unexpected": [name for name in state if name not in wanted],
        "misshapen": [n for n in wanted if n in state and state[n].shape != wanted[n].shape],
    }
    if not any(faults.values()):
        return
    words = []
    for fault, names in faults.items():
        shown = [to_official(name, config.mlp) if found.official else name for name in names]
        if fault == "misshapen":
            shape = {n: f" {list(state[n].shape)} for {list(wanted[n].shape)}" for n in names}
            shown = [f"{label}{shape[name]}" for label, name in zip(shown, names, strict=True)]
        words += [f"{fault} {listed(shown)}"] if names else []
    size = published_size(config)
    fits = f"; width and depth are those of {size!r}" if size else ""
    raise CheckpointError(f"weights do not fit: {', '.join(words)}{fits}")


class _EmptyOnMeta(TorchFunctionMode):
    """Make `torch.empty` allocate no storage: layers are created by it, buffers are not."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = dict(kwargs or {})
        if func is torch.empty:
            keywords["device"] = "meta"
        return func(*args, **keywords)


def check_length(config: Config) -> None:
    """Refuse a config of more than `LARGEST_SEQUENCE` tokens.

    Raises:
        CheckpointError: it has more.
    """
    if config.tokens > LARGEST_SEQUENCE:
        raise CheckpointError(
            f"needs {config.tokens} tokens, more than {LARGEST_SEQUENCE}; use a smaller image size"
        )


def build(config: Config) -> Model:
    """Return a model with buffers but without storage for its large weights.

    Drawing weights only to replace them takes seconds and advances the global random state.
    """
    check_length(config)
    with torch.random.fork_rng(devices=[]), _EmptyOnMeta():
        return Model(config)


def fill(config: Config, state: Mapping[str, Tensor], device: str | torch.device) -> Model:
    """Return a model of these weights, in evaluation mode."""
    model = build(config)
    model.load_state_dict(state, assign=True)
    return model.to(device).eval()


def adopt(
    state: Mapping[str, Tensor], *, heads: int, image_size: int | None = None
) -> tuple[Model, tuple[str, ...]]:
    """Return our bidirectional model of a ViT's weights under timm's names, and what was changed.

    `image_size` resizes the positions, in pixels.

    Raises:
        CheckpointError: the weights are not those of a plain ViT or DeiT.
    """
    found = find(state, {}, ema=False)
    own = config_of(found, heads=heads, image_size=None)
    config = own if image_size is None else own.with_image_size(image_size)
    model = fill(config, prepare(found, own, config), "cpu")
    resized = f"positions resized from {own.image_size} to {config.image_size} pixels"
    return model, (*found.notes, *([resized] if config != own else []))
