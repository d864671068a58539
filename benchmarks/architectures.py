"""In which of timm's 307 ViT-like architectures attention is seen, and why not in the others.

    python benchmarks/architectures.py [--only WORD] [--out docs/architectures.md]

Each is built with random weights at the smallest size that it takes (2 blocks of width 192 with 3
heads, 6 x 6 patches) and examined as `--model timm:NAME` is: attention counts as seen only if every
layer's output is rebuilt from its map and values. Takes about 3 minutes.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from illama_eval.subjects.network import Examined, examine
from illama_eval.subjects.timm import read_timm

FAMILIES = (
    "vision_transformer",
    "eva",
    "deit",
    "vision_transformer_hybrid",
    "vision_transformer_relpos",
    "naflexvit",
    "cait",
    "beit",
    "vision_transformer_sam",
)
"""timm's modules of architectures that are called vision transformers by their own authors."""
PATCHES, PATCHES_OF_SAM = 6, 28
"""Patches along a side; SAM's windows are 14 wide, and there should be several."""
SMALL = {"depth": 2, "embed_dim": 192, "num_heads": 3}
SIZES: tuple[tuple[dict[str, int], bool], ...] = (
    (SMALL, True),
    ({**SMALL, "num_kv_heads": 1}, True),
    ({"depth": 2}, True),
    (SMALL, False),
    ({"depth": 2}, False),
    ({}, False),
)
"""What is asked of an architecture, and whether with few patches; what it takes first counts."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is seen of one architecture."""

    name: str
    family: str
    found: Examined

    @property
    def cells(self) -> tuple[str, ...]:
        """Name, whether attention is seen, tokens that are not the image's, and notes."""
        layers = self.found.layers
        if layers is None:
            return self.name, "no", "", self.found.hidden.removeprefix("attention is not seen: ")
        before = layers.tokens - (layers.image_tokens.stop - layers.image_tokens.start)
        others = f"{before}, with a class token" if layers.class_index is not None else str(before)
        return self.name, "yes", others, "; ".join(layers.notes[1:])


def main() -> None:
    """Examine all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="architectures with this in their names")
    parser.add_argument("--out", type=Path, help="write the page here instead of printing it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [name for name in architectures() if arguments.only in name]
    outcomes = [outcome_of(name) for name in chosen]
    page = "\n".join(page_of(outcomes)) + "\n"
    if arguments.out is None:
        print(page)
    else:
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(page, encoding="utf-8")


def architectures() -> dict[str, str]:
    """Return timm's ViT-like architectures by name, each with its family."""
    timm = importlib.import_module("timm")
    return {name: family for family in FAMILIES for name in timm.list_models(module=family)}


def outcome_of(name: str) -> Outcome:
    """Build an architecture as small as it goes, and examine it."""
    model, size = build(name)
    found = examine(name, model, read_timm, size)
    return Outcome(name=name, family=architectures()[name], found=found)


def build(name: str) -> tuple[Any, int]:
    """Return the architecture with random weights, in evaluation mode, and its input size."""
    timm = importlib.import_module("timm")
    patch = re.search(r"(?:patch|_p|_r\d*_s)(\d+)", name)
    side = PATCHES_OF_SAM if name.startswith("samvit") else PATCHES
    few = side * int(patch.group(1) if patch else 16)
    torch.manual_seed(0)
    refusals = []
    for given, shrinks in SIZES:
        try:
            model = timm.create_model(name, **given, **({"img_size": few} if shrinks else {}))
        except (TypeError, AssertionError, ValueError, RuntimeError) as refusal:
            refusals.append(refusal)
            continue
        return model.eval(), few if shrinks else model.pretrained_cfg["input_size"][-1]
    raise refusals[-1]


def page_of(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield the lines of the page: counts by family, then every architecture."""
    outcomes = sorted(outcomes, key=lambda each: (FAMILIES.index(each.family), each.name))
    seen = sum(each.found.layers is not None for each in outcomes)
    timm = importlib.import_module("timm")
    yield from (
        "# Attention of timm's vision transformers",
        "",
        f"Attention is seen in {seen} of {len(outcomes)} architectures of timm {timm.__version__}:",
        "every layer's output is rebuilt from its map and values within 1e-5. The others are",
        "refused, with the reason below.",
        "",
        "Random weights, at the smallest size that each takes. Made by",
        "`python benchmarks/architectures.py --out docs/architectures.md`.",
        "",
    )
    rows = []
    for family in FAMILIES:
        own = [each for each in outcomes if each.family == family]
        shown = sum(each.found.layers is not None for each in own)
        rows.append((f"`{family}`", str(len(own)), str(shown)))
    yield from table(("timm module", "architectures", "attention is seen"), rows)
    yield ""
    heads = ("architecture", "attention is seen", "tokens beside the image's", "notes")
    yield from table(heads, (each.cells for each in outcomes))


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{' :--- |' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    main()
