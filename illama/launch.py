"""How this process was started: alone or by `torchrun`, and which share of the cores is its own."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache

from illama.exits import InputError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
"""Environment variables that `torchrun` sets in every process it starts."""


@dataclass(frozen=True)
class Launch:
    """This process's place among those that `torchrun` started."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Its rank on this machine, which is the number of its GPU."""


def is_by_torchrun() -> bool:
    """Return whether `torchrun` started this process: all its variables are set."""
    return all(name in os.environ for name in TORCHRUN)


def launched() -> Launch:
    """Return what `torchrun` says of this process; alone unless all its variables are set.

    A part of them is left over from another program, and gets a note on stderr.

    Raises:
        InputError: a variable is not a number.
    """
    if not is_by_torchrun():
        _note_leftovers()
        return Launch()
    try:
        rank, size, local_rank = (int(os.environ[name]) for name in TORCHRUN[:3])
    except ValueError as problem:
        raise InputError(
            f"{', '.join(TORCHRUN[:3])}: {problem}; unset them, or start with torchrun"
        ) from None
    return Launch(rank, size, local_rank)


def own_cores() -> int:
    """Return the cores that this process may use: its share, where `torchrun` started several."""
    bound = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = (os.cpu_count() or 1) if bound is None else len(bound(0))
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1") if is_by_torchrun() else "1"
    return max(1, cores // max(1, int(beside))) if beside.isdecimal() else cores


@cache
def _note_leftovers() -> None:
    """Name the variables that would have meant several processes, once."""
    found = [name for name in TORCHRUN[:3] if name in os.environ]
    lacking = [name for name in TORCHRUN if name not in os.environ]
    if found:
        sys.stderr.write(
            f"note: {', '.join(found)} set without {', '.join(lacking)}, so not by torchrun: this "
            "runs as one process\n"
        )
