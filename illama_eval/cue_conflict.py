"""The 16 entry-level categories of the cue-conflict pictures, and tables for other heads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Categories: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Names of categories, each with the head's indices that belong to it."""

IMAGENET_CLASSES = 1000

ENTRY_LEVEL: Mapping[str, tuple[int, ...]] = {
    "airplane": (404,),
    "bear": (
        294,
        295,
        296,
        297,
    ),
    "bicycle": (
        444,
        671,
    ),
    "bird": (
        8,
        10,
        11,
        12,
        13,
        14,
        15,
        16,
        18,
        19,
        20,
        22,
        23,
        24,
        80,
        81,
        82,
        83,
        87,
        88,
        89,
        90,
        91,
        92,
        93,
        94,
        95,
        96,
        98,
        99,
        100,
        127,
        128,
        129,
        130,
        131,
        132,
        133,
        135,
        136,
        137,
        138,
        139,
        140,
        141,
        142,
        143,
        144,
        145,
    ),
    "boat": (
        472,
        554,
        625,
        814,
        914,
    ),
    "bottle": (
        440,
        720,
        737,
        898,
        899,
        901,
        907,
    ),
    "car": (
        436,
        511,
        817,
    ),
    "cat": (
        281,
        282,
        283,
        284,
        285,
        286,
    ),
    "chair": (
        423,
        559,
        765,
        857,
    ),
    "clock": (
        409,
        530,
        892,
    ),
    "dog": (
        152,
        153,
        154,
        155,
        156,
        157,
        158,
        159,
        160,
        161,
        162,
        163,
        164,
        165,
        166,
        167,
        168,
        169,
        170,
        171,
        172,
        173,
        174,
        175,
        176,
        177,
        178,
        179,
        180,
        181,
        182,
        183,
        184,
        185,
        186,
        187,
        188,
        189,
        190,
        191,
        193,
        194,
        195,
        196,
        197,
        198,
        199,
        200,
        201,
        202,
        203,
        205,
        206,
        207,
        208,
        209,
        210,
        211,
        212,
        213,
        214,
        215,
        216,
        217,
        218,
        219,
        220,
        221,
        222,
        223,
        224,
        225,
        226,
        228,
        229,
        230,
        231,
        232,
        233,
        234,
        235,
        236,
        237,
        238,
        239,
        240,
        241,
        243,
        244,
        245,
        246,
        247,
        248,
        249,
        250,
        252,
        253,
        254,
        255,
        256,
        257,
        259,
        261,
        262,
        263,
        265,
        266,
        267,
        268,
    ),
    "elephant": (
        385,
        386,
    ),
    "keyboard": (
        508,
        878,
    ),
    "knife": (499,),
    "oven": (766,),
    "truck": (
        555,
        569,
        656,
        675,
        717,
        734,
        864,
        867,
    ),
}
"""Entry-level category -> indices of its ImageNet-1k classes, 207 in all (Geirhos et al. 2019)."""


class CategoriesError(ValueError):
    """Categories that do not fit the head or the images; one line: what, where, what to do."""

    exit_code = 3


def choose_categories(
    names: Sequence[str], classes: int, *, table: Path | None = None, own: bool = False
) -> Categories:
    """Return the categories of a source's cues, in its order, for a head of `classes` outputs.

    `table` is a JSON file of name -> indices; without it, a head of 1000 classes has the 16
    entry-level categories, and the classes of a head that was trained on these very categories
    (`own`) are the categories themselves. Categories that no image has come last.

    Raises:
        CategoriesError: there is no table for this head, or it lacks a category of the source, or
            names an index that the head does not have, or one twice.
    """
    if table is not None:
        known = _read(table)
    elif own and len(names) == classes:
        known = {name: (index,) for index, name in enumerate(names)}
    elif classes == IMAGENET_CLASSES:
        known = ENTRY_LEVEL
    else:
        raise CategoriesError(
            f"a head of {classes} classes: which of them make up {names[0]!r} and the other"
            " categories is not known; give --categories FILE, a JSON of name: [indices]"
        )
    where = "the 16 entry-level categories" if table is None else str(table)
    _check(known, names, classes, where)
    ordered = [*names, *(name for name in known if name not in names)]
    return tuple((name, tuple(known[name])) for name in ordered)


def _read(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the table of a file."""
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise CategoriesError(f"{path}: no readable JSON ({problem})") from None
    sound = (
        isinstance(read, dict)
        and read
        and all(
            isinstance(each, list) and each and all(type(index) is int for index in each)
            for each in read.values()
        )
    )
    if not sound:
        raise CategoriesError(f"{path}: expected a JSON object of name: [indices]")
    return {str(name): tuple(indices) for name, indices in read.items()}


def _check(
    known: Mapping[str, Sequence[int]], names: Sequence[str], classes: int, where: str
) -> None:
    """Refuse a table that does not cover the images or does not fit the head."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CategoriesError(
            f"{where}: {len(unknown)} categories of the images are not among them (first:"
            f" {unknown[0]!r}); there are {', '.join(known)}"
        )
    indices = [index for each in known.values() for index in each]
    outside = next((index for index in indices if not 0 <= index < classes), None)
    if outside is not None:
        raise CategoriesError(f"{where}: index {outside} is outside the head of {classes} classes")
    if len(set(indices)) < len(indices):
        twice = next(index for index in indices if indices.count(index) > 1)
        raise CategoriesError(f"{where}: index {twice} stands in it twice")


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Somebody else who decided on the same pictures."""

    name: str
    kind: Literal["human", "model"]
    sha256: str
    """Of the tables that the decisions stand in."""
    decisions: Mapping[str, int | None] = field(repr=False)
    """By the picture's file name without extension: number of a category, None for no response."""
