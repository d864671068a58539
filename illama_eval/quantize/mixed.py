"""Mixed schemes: bits of each layer within a budget of bytes, and their JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from illama.checkpoint.quantized_weight import WHOLE_BYTE
from illama_eval.quantize.layers import Quantizable, linear
from illama_eval.quantize.ptq import quantize
from illama_eval.quantize.schemes import FLOAT, SCHEMES, QuantizationConfig
from illama_eval.quantize.sensitivity import Effect
from illama_eval.subjects.subject import SubjectError

LADDER = ("w8", "w6", "w4", "w3", "w2")
"""Schemes that a mixed one may use, from the most bits down."""
STORED = ("group_size", "rounding", "asymmetric", "clipping", "exclude")
"""Settings of the quantization that the file keeps beside the schemes."""
MIXED_FORMAT = "illama-mixed-1"
"""Field `format` of the file."""


def mix(
    model: nn.Module, effects: Sequence[Effect], config: QuantizationConfig, allowed: float
) -> tuple[dict[str, str], float]:
    """Return a scheme for every layer, so that their weights take at most `allowed` bytes.

    Greedy: of all steps to fewer bits the one with the least divergence per saved byte is taken,
    as if effects were additive. The second result is the divergence expected so.

    Raises:
        SubjectError: the fewest bits take more.
    """
    table: dict[tuple[str, ...], dict[str, tuple[float, float]]] = {}
    for effect in effects:
        layers = effect.group.layers
        shapes = [linear(model, name).weight.shape for name in layers]
        size = sum(weight_bytes(shape, effect.scheme, config) for shape in shapes)
        full = sum(weight_bytes(shape, FLOAT, config) for shape in shapes)
        costs = table.setdefault(layers, {FLOAT: (full, 0.0)})
        costs[effect.scheme] = (size, float(effect.divergence.mean()))
    now = dict.fromkeys(table, FLOAT)
    total = sum(costs[FLOAT][0] for costs in table.values())
    while total > allowed:
        step = _cheapest_step(table, now)
        if step is None:
            raise SubjectError(
                f"--budget: the weights take {total:,.0f} bytes at the fewest bits, "
                f"{allowed:,.0f} are allowed; raise the budget"
            )
        layers, scheme = step
        total -= table[layers][now[layers]][0] - table[layers][scheme][0]
        now[layers] = scheme
    expected = sum(table[layers][scheme][1] for layers, scheme in now.items())
    return {name: scheme for layers, scheme in now.items() for name in layers}, expected


def _cheapest_step(
    table: Mapping[tuple[str, ...], Mapping[str, tuple[float, float]]],
    now: Mapping[tuple[str, ...], str],
) -> tuple[tuple[str, ...], str] | None:
    """Return the step down with the least added divergence per saved byte; None at the bottom."""
    best, least = None, math.inf
    for layers, costs in table.items():
        size, divergence = costs[now[layers]]
        for scheme, (smaller, worse) in costs.items():
            if smaller < size and (worse - divergence) / (size - smaller) < least:
                best, least = (layers, scheme), (worse - divergence) / (size - smaller)
    return best


def allowed_bytes(base: Quantizable, config: QuantizationConfig, budget: float) -> float:
    """Return the bytes that the weights may take within the budget of the whole file.

    Raises:
        SubjectError: the file is larger even at the fewest bits.
    """
    smallest = quantize(base, replace(config, scheme=LADDER[-1], rounding="nearest")).describe()
    size = smallest["bytes"]
    weights = sum(weight_bytes(each["shape"], LADDER[-1], config) for each in smallest["quantized"])
    rest = size["total"] - weights
    allowed: float = budget * size["full_precision"] - rest
    if allowed < weights:
        least = size["total"] / size["full_precision"]
        raise SubjectError(
            f"--budget {budget:g}: at the fewest bits the file is {least:.3f} of fp32"
        )
    return allowed


def weight_bytes(shape: Sequence[int], scheme: str, config: QuantizationConfig) -> float:
    """Return the bytes of a weight [out, in] under a scheme of LADDER, or in floating point."""
    out, width = shape
    if scheme == FLOAT:
        return 4.0 * out * width
    bits = SCHEMES[scheme].bits
    groups = out * (1 if bits == WHOLE_BYTE else width // config.group_size)
    zero = 1 if config.asymmetric and bits < WHOLE_BYTE else 0
    return out * width * bits / 8 + groups * (2 + zero)


def mixed_json(
    layers: Mapping[str, str], config: QuantizationConfig, about: Mapping[str, Any]
) -> str:
    """Return the text of the file of schemes by layer, which `--scheme` reads."""
    settings = {name: getattr(config, name) for name in STORED}
    settings["exclude"] = list(config.exclude)
    data = {"format": MIXED_FORMAT, **settings, **about, "layers": dict(layers)}
    return json.dumps(data, indent=1) + "\n"


def read_mixed(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the schemes by layer of a JSON file, and the settings they were chosen with.

    Raises:
        SubjectError: the file is missing or damaged, or not of this format.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SubjectError(f"{path}: not a readable file of schemes by layer ({error})") from None
    layers = data.get("layers") if isinstance(data, dict) else None
    if not isinstance(layers, dict) or data.get("format") != MIXED_FORMAT:
        raise SubjectError(f"{path}: not a {MIXED_FORMAT} file; --mixed --budget writes one")
    wrong = [name for name, scheme in layers.items() if scheme not in (*SCHEMES, FLOAT)]
    if wrong:
        raise SubjectError(
            f"{path}: {wrong[0]} has the unknown scheme {layers[wrong[0]]!r}; "
            f"use {', '.join(SCHEMES)} or {FLOAT}"
        )
    settings = {key: data[key] for key in STORED if key in data}
    if "exclude" in settings:
        settings["exclude"] = tuple(map(str, settings["exclude"]))
    return layers, settings
