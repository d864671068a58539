"""What a command reads is looked for before torch is imported, so that a typo costs no time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from illama.exits import InputError
from illama.files import require_file
from illama.source_names import CLASS_SUBSETS, check_source
from illama_eval.commands.checkpoints import parse_all

SOURCES = ("data", "train_data")
"""Options that take a source."""
FILES = ("labels", "predictions", "categories", "observers")
"""Options that take files to read."""
WORDS = frozenset(("pretrained", "random"))
"""Weights that are no file."""


def check_inputs(given: Mapping[str, Any]) -> None:
    """Refuse paths that are not there and sources that cannot be; `given` are options by name.

    Raises:
        InputError: a file or a source is missing; the message says which.
        CheckpointError: a checkpoint cannot be read.
    """
    for argument in parse_all(given.get("checkpoints")):
        if not argument.path.is_dir():  # `trajectory` takes folders; other commands refuse them
            require_file(argument.path)
    for name in SOURCES:
        if given.get(name) is not None:
            check_source(given[name])
    for path in _files(given):
        if not path.is_file():
            raise InputError(f"{path} {'is no file' if path.exists() else 'does not exist'}")


def _files(given: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the other files that are read."""
    yield from (Path(word) for word in given.get("weights") or () if word not in WORDS)
    subset = given.get("class_subset")
    if subset is not None and subset not in CLASS_SUBSETS:
        yield Path(subset)
    for name in FILES:
        found = given.get(name) or ()
        yield from [found] if isinstance(found, Path) else found
    yield from (Path(word) for word in given.get("scheme") or () if word.endswith(".json"))
