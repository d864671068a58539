"""What a command reads is looked for before torch is imported, so that a typo costs no time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from illama.exits import InputError
from illama.files import require_file
from illama.source_names import check_source
from illama_eval.commands.checkpoints import parse_all

if TYPE_CHECKING:
    from illama_eval.commands.options import SharedOptions

SOURCES = ("train_data", "calibration_data")
"""Options of single commands that take a source."""
FILES = ("predictions", "categories", "observers")
"""Options of single commands that take files to read."""
WORDS = frozenset(("pretrained", "random"))
"""Weights that are no file."""


def check_inputs(shared: SharedOptions, own: Mapping[str, Any]) -> None:
    """Refuse paths that are not there and sources that cannot be, in the order of a command line.

    `own` are the options of the command alone, by name.

    Raises:
        InputError: a file or a source is missing; the message says which.
        CheckpointError: a file cannot be read.
    """
    for argument in parse_all(shared.checkpoints):
        require_file(argument.path)
    for spec in (shared.data, *(own.get(name) for name in SOURCES)):
        if spec is not None:
            check_source(spec)
    for path in _files(shared, own):
        if not path.is_file():
            raise InputError(f"{path} {'is no file' if path.exists() else 'does not exist'}")


def _files(shared: SharedOptions, own: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the other files that are read."""
    yield from (Path(word) for word in shared.weights or () if word not in WORDS)
    yield from (path for path in (shared.class_subset, shared.labels) if path is not None)
    for name in FILES:
        given = own.get(name) or ()
        yield from [given] if isinstance(given, Path) else given
    scheme = own.get("scheme")
    if scheme is not None and Path(scheme).suffix == ".json":
        yield Path(scheme)
