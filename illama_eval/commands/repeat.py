"""The command line that repeats a run, from the one that was given; imported without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from illama.source_names import DATA_VARIABLE

UNCHANGING = frozenset(
    {
        *("out", "resume", "overwrite", "as_json", "everything", "save_every"),
        *("device", "batch_size", "workers", "compiled", "cache"),
    }
)
"""Parameters of commands that say where and how to run, and change no number of the run beyond
rounding."""


def repeat_words(context: typer.Context) -> tuple[str, ...]:
    """Return the command line in words, without defaults and what is in UNCHANGING.

    Absolute paths become relative to this folder; images that $ILLAMA_DATA names become --data.
    """
    given = dict(context.params)
    if "data" in given and given["data"] is None and (given["checkpoints"] or given["models"]):
        given["data"] = os.environ.get(DATA_VARIABLE)
    words = [*context.command_path.split()]
    for parameter in context.command.params:
        value = given.get(parameter.name or "")
        if parameter.name not in UNCHANGING and value and value != parameter.default:
            words += _words_of(parameter, value)
        elif value is False and parameter.default is True and parameter.name not in UNCHANGING:
            words.append(parameter.secondary_opts[0])
    return tuple(words)


def _words_of(parameter: Any, value: Any) -> Iterator[str]:
    """Yield the words that give a parameter this value."""
    name = [] if parameter.param_type_name == "argument" else [max(parameter.opts, key=len)]
    if value is True:
        yield from name
        return
    for each in value if isinstance(value, (list, tuple)) else [value]:
        yield from name
        text = str(each)
        yield os.path.relpath(text) if Path(text).is_absolute() else text
