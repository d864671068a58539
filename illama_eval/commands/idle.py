"""Options that were given and would change nothing are refused; imported without torch.

Options of where and how to run (`repeat.UNCHANGING`) are not refused: they change no number anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import typer

from illama.exits import UsageError
from illama_eval.commands.checkpoints import LOADED, TRANSFORM

OF_IMAGES = frozenset(("data", "split", "labels", "class_subset"))
"""Shared options that choose images."""
OF_TRANSFORM = frozenset(("preprocess", *TRANSFORM))
"""Shared options that prepare them."""
OF_MODELS = frozenset(("models", "weights", "ema", *LOADED))
"""Shared options that choose models and how they are run."""
OF_OPENING = OF_TRANSFORM | OF_MODELS | {"dtype", "compiled"}
"""Shared options that a model is opened with."""
ALL_BUT_LIMIT = OF_IMAGES | OF_OPENING
"""Shared options that decisions of others leave without an object."""


def given_flags(context: typer.Context) -> dict[str, str]:
    """Return the options of the command line by their name in Python, each as it is written."""
    found = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        if parameter.param_type_name == "argument":
            continue
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE":
            off = context.params.get(name) is False and parameter.secondary_opts
            found[name] = max(parameter.secondary_opts if off else parameter.opts, key=len)
    return found


def refuse_idle(given: Mapping[str, str], idle: Collection[str], where: str) -> None:
    """Refuse the first option that was given and would change nothing.

    Args:
        given: names of the options that were given, and how they are written.
        idle: names of those that change nothing.
        where: beside what they change nothing, for the message.

    Raises:
        UsageError: there is one.
    """
    for name, flag in given.items():
        if name in idle:
            raise UsageError(f"{flag} changes nothing beside {where}; leave it out")


def refuse_split(split: str, source: str, found: str) -> None:
    """Refuse another split than the default one of a source that has none.

    Raises:
        UsageError: it was asked for, and `found`, the split that was opened, is `all`.
    """
    if split != "test" and found == "all":
        raise UsageError(f"--split {split}: {source} has no splits; leave it out")
