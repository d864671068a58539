"""The default run directory, named after what is measured: models, command and images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from illama.sources.source import Source
from illama_eval.commands.options import REPORTS, SharedOptions

_UNNAMED = {"test", "all"}
"""Splits that are not part of a name: the default one, and that of a set without splits."""


def default_out(
    names: Sequence[str], digests: Sequence[str], command: str, images: str = ""
) -> Path:
    """Return reports/NAME-SHA/COMMAND-IMAGES; several files share the digest of their digests."""
    one = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    name = names[0] if len(names) == 1 else f"{names[0]}-and-{len(names) - 1}-more"
    return REPORTS / f"{name}-{one[:8]}" / (f"{command}-{images}" if images else command)


def name_images(source: Source, shared: SharedOptions) -> str:
    """Return the source's name, with its split and the limit where they are not the default."""
    parts = [source.name]
    if source.split not in _UNNAMED:
        parts.append(source.split)
    if shared.limit is not None:
        parts.append(f"limit{shared.limit}")
        parts += [f"seed{shared.seed}"] if shared.seed else []
    return "-".join(parts)
