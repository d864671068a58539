"""Initial weights selected from LLaMA-2 (paper, Table 18; Xu et al. 2024).

Blocks take weights from LLaMA-2's first layers, a subset of the rows and columns of every matrix;
all other weights are random. `uniform` is the released selection: rows and columns of each
matrix at equal distances, whatever they mean. `head-aware` keeps their meaning: the same channels
of the token in every matrix, whole heads, and whole rotary pairs. Hugging Face stores the two
channels of a pair half a head apart, iLLaMA side by side; they are reordered as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.files import CheckpointError, about, first_line
from illama.model import Model

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLES = ("model.safetensors", "pytorch_model.bin")
"""Files of a Hugging Face folder, the ones without pickles first."""


@dataclass(frozen=True)
class Llama:
    """A LLaMA in a Hugging Face folder, read one tensor at a time."""

    folder: Path
    files: Mapping[str, str] | str
    """The file of each tensor, or the one file of all."""
    width: int
    hidden: int
    heads: int
    key_heads: int
    """Heads of keys and values; fewer than `heads` where queries share them."""
    layers: int
    head_width: int
    _opened: dict[str, Any] = field(default_factory=dict, repr=False)

    def read(self, layer: int, name: str) -> Tensor:
        """Return a weight of a layer in fp32.

        Raises:
            CheckpointError: it is missing, damaged or not finite.
        """
        full = f"model.layers.{layer}.{name}.weight"
        file = self.files if isinstance(self.files, str) else self.files.get(full)
        if file is None:
            raise CheckpointError(f"{self.folder}: no file has {full}; download it again")
        path = self.folder / Path(file).name  # an index must not point outside the folder
        with about(path):
            try:
                tensor = self._open(path)(full)
            except Exception as error:  # damage surfaces as any exception
                raise CheckpointError(f"{full} cannot be read ({first_line(error)})") from error
            if not tensor.isfinite().all():
                raise CheckpointError(f"{full} is not finite; download it again")
        return tensor.float()

    def _open(self, path: Path) -> Callable[[str], Tensor]:
        """Return a reader of one file; only the last one is kept open."""
        if path.name not in self._opened:
            self._opened.clear()
            if path.suffix == ".safetensors":
                self._opened[path.name] = safetensors.safe_open(path, framework="pt").get_tensor
            else:
                tensors = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
                self._opened[path.name] = tensors.__getitem__
        read: Callable[[str], Tensor] = self._opened[path.name]
        return read


def open_llama(folder: Path) -> Llama:
    """Open a Hugging Face folder of a LLaMA; no weights are read yet.

    Raises:
        CheckpointError: its config or its weights are missing or damaged.
    """
    given = _read_json(folder / "config.json")
    files = _find_files(folder)
    try:
        width, heads = int(given["hidden_size"]), int(given["num_attention_heads"])
        return Llama(
            folder=folder,
            files=files,
            width=width,
            hidden=int(given["intermediate_size"]),
            heads=heads,
            key_heads=int(given.get("num_key_value_heads") or heads),
            layers=int(given["num_hidden_layers"]),
            head_width=int(given.get("head_dim") or width // heads),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: is not that of a LLaMA ({first_line(error)})"
        ) from None


def _find_files(folder: Path) -> Mapping[str, str] | str:
    """Return the file of each tensor, or the one that holds all."""
    for name in (*INDICES, *SINGLES):
        if (folder / name).exists():
            if name in SINGLES:
                return name
            index: Mapping[str, str] = _read_json(folder / name).get("weight_map", {})
            return index
    raise CheckpointError(f"{folder}: has none of {', '.join((*INDICES, *SINGLES))}")


def initialize(
    folder: Path, size: str, out: Path, *, head_aware: bool = False, seed: int = 0
) -> None:
    """Write a checkpoint of a published size with blocks selected from the LLaMA in `folder`.

    Raises:
        CheckpointError: the folder has no LLaMA of at least this size, or `out` cannot be written.
    """
    llama = open_llama(folder)
    config = Config.at("soft-mask", size)
    _check_larger(llama, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(config)
    state = model.state_dict()
    select = _select_heads if head_aware else _select_uniformly
    for block in range(config.depth):
        for name, weight in select(llama, block, config):
            state[f"blocks.{block}.{name}.weight"] = weight
    model.load_state_dict(state)
    selection = "head-aware" if head_aware else "uniform"
    given = {"selected_from": folder.resolve().name, "selection": selection, "seed": seed}
    save_checkpoint(model, out, args=given)


def spread(given: int, wanted: int) -> Tensor:
    """Return `wanted` of `given` indices at equal distances, the first one included."""
    if given % wanted == 0:
        return torch.arange(wanted) * (given // wanted)
    return torch.linspace(0, given - 1, wanted).round().long()


def _select_uniformly(llama: Llama, block: int, config: Config) -> Iterator[tuple[str, Tensor]]:
    """Yield a block's weights by the released selection; queries, keys, values count as one."""
    width, hidden = config.width, config.hidden
    parts = [llama.read(block, f"self_attn.{name}_proj") for name in "qkv"]
    rows = spread(sum(len(part) for part in parts), 3 * width)
    columns = spread(llama.width, width)
    start, taken = 0, []
    for part in parts:
        own = rows[(rows >= start) & (rows < start + len(part))] - start
        taken.append(part[own][:, columns])
        start += len(part)
    yield "attention.qkv", torch.cat(taken)
    wanted = {
        "attention.projection": ("self_attn.o_proj", (width, width)),
        "feed_forward.gate": ("mlp.gate_proj", (hidden, width)),
        "feed_forward.up": ("mlp.up_proj", (hidden, width)),
        "feed_forward.down": ("mlp.down_proj", (width, hidden)),
        "attention_norm": ("input_layernorm", (width,)),
        "feed_forward_norm": ("post_attention_layernorm", (width,)),
    }
    for name, (theirs, shape) in wanted.items():
        weight = llama.read(block, theirs)
        for axis, length in enumerate(shape):
            weight = weight.index_select(axis, spread(weight.shape[axis], length))
        yield name, weight


def _select_heads(llama: Llama, block: int, config: Config) -> Iterator[tuple[str, Tensor]]:
    """Yield a block's weights with heads, rotary pairs and channels kept together."""
    channels = spread(llama.width, config.width)
    hidden = spread(llama.hidden, config.hidden)
    heads = spread(llama.heads, config.heads)
    shared = heads // (llama.heads // llama.key_heads)
    pairs = rotary_pairs(llama.head_width, config.head_width)
    values = spread(llama.head_width, config.head_width)
    rows = {
        "q": _rows(heads, pairs, llama.head_width),
        "k": _rows(shared, pairs, llama.head_width),
        "v": _rows(shared, values, llama.head_width),
    }
    parts = [
        llama.read(block, f"self_attn.{name}_proj")[own][:, channels] for name, own in rows.items()
    ]
    yield "attention.qkv", torch.cat(parts)
    outputs = _rows(heads, values, llama.head_width)
    wanted = {
        "attention.projection": ("self_attn.o_proj", (channels, outputs)),
        "feed_forward.gate": ("mlp.gate_proj", (hidden, channels)),
        "feed_forward.up": ("mlp.up_proj", (hidden, channels)),
        "feed_forward.down": ("mlp.down_proj", (channels, hidden)),
        "attention_norm": ("input_layernorm", (channels,)),
        "feed_forward_norm": ("post_attention_layernorm", (channels,)),
    }
    for name, (theirs, kept) in wanted.items():
        weight = llama.read(block, theirs)
        for axis, indices in enumerate(kept):
            weight = weight.index_select(axis, indices)
        yield name, weight


def rotary_pairs(given: int, wanted: int) -> Tensor:
    """Return `wanted` channels of a head of `given`: whole rotary pairs, side by side.

    In the source the channels of pair i are i and i + given / 2. Where `wanted` divides `given`,
    the pairs also keep their frequencies.
    """
    pairs = spread(given // 2, wanted // 2)
    return torch.stack((pairs, pairs + given // 2), dim=-1).flatten()


def _rows(heads: Tensor, inside: Tensor, head_width: int) -> Tensor:
    """Return the row indices of the channels `inside` each of the heads."""
    return (heads[:, None] * head_width + inside).flatten()


def _check_larger(llama: Llama, config: Config) -> None:
    """Refuse a source that is smaller than what is selected from it."""
    pairs = {
        "layers": (llama.layers, config.depth),
        "hidden_size": (llama.width, config.width),
        "intermediate_size": (llama.hidden, config.hidden),
        "num_attention_heads": (llama.heads, config.heads),
        "head_dim": (llama.head_width, config.head_width),
    }
    for name, (given, wanted) in pairs.items():
        if given < wanted:
            raise CheckpointError(
                f"{llama.folder}: {name} is {given}, the model to fill needs {wanted}; choose a"
                " smaller --size or a larger LLaMA"
            )


def _read_json(path: Path) -> dict[str, Any]:
    """Return a file's dictionary."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({first_line(error)}); name the folder of a LLaMA in Hugging"
            " Face form"
        ) from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is not a dictionary; download it again")
    return found
