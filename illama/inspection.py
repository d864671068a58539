"""What `illama inspect` shows of a checkpoint: JSON, or two columns of labels and words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from illama.checkpoint.released import RELEASED
from illama.exits import plain


def show_checkpoint(described: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the `to_dict()` of a Checkpoint."""
    _show(described, _checkpoint_rows(described), as_json=as_json)


def show_segmenter(described: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the `to_dict()` of a SegmenterCheckpoint."""
    _show(described, _segmenter_rows(described), as_json=as_json)


def _show(described: Mapping[str, Any], rows: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(described, indent=2, allow_nan=False))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for label, value in rows.items():
        table.add_row(label, Text(plain(value)))
    Console().print(table)


def _segmenter_rows(described: Mapping[str, Any]) -> dict[str, str]:
    """Return labels and values as they are."""
    return {
        name.replace("_", " "): value if isinstance(value, str) else json.dumps(value)
        for name, value in described.items()
    }


def _checkpoint_rows(described: Mapping[str, Any]) -> dict[str, str]:
    """Return labels and values in words."""
    known = next((file for file in RELEASED if file.name == described["released"]), None)
    config, epoch = described["config"], described["epoch"]
    pairs = (f"{name} {value}" for name, value in config.items())
    return {
        "file": f"{described['path']} ({described['bytes']:,} bytes)",
        "layout": described["layout"],
        "file sha256": described["file_sha256"],
        "published as": f"{known.name}, top-1 {known.top1:.1%}" if known else "not published",
        "weights from": described["key"] or "top of the file",
        "weights sha256": described["sha256"],
        "epoch": "not stored" if epoch is None else f"{epoch}, counted from 0",
        "args": json.dumps(described["args"]) if described["args"] else "not stored",
        "config": ", ".join(pairs),
        "class names": ", ".join(described["class_names"] or ()) or "not stored",
        "transform": _transform_in_words(described["transform"]),
        "runs with": f"masking {config['masking']}, soft mask {described['soft_mask']:g}",
        "parameters": (
            f"{described['parameters']:,} "
            f"({described['parameters_as_published'] / 1e6:.1f} M as the paper counts)"
        ),
        "MACs": (
            f"{described['macs'] / 1e9:.4f} G dense, "
            f"{described['causal_macs'] / 1e9:.4f} G with the paper's causal formula"
        ),
        **_numbered("assumed", [each["text"] for each in described["assumptions"]]),
        **_numbered("changed", [each["text"] for each in described["overrides"]]),
        **_numbered("note", described["notes"]),
    }


def _numbered(label: str, lines: Sequence[str]) -> dict[str, str]:
    """Return the lines under a label with their number."""
    return {f"{label} {number}": line for number, line in enumerate(lines, start=1)}


def _transform_in_words(transform: Mapping[str, Any]) -> str:
    """Return an evaluation transform as it is described in a header, in words."""
    size, short = transform["image_size"], transform["short_side"]
    crop = f"short side {short}, centre crop {size}" if short else f"whole image at {size}"
    colours = (f"{name} {' '.join(map(str, transform[name]))}" for name in ("mean", "std"))
    return ", ".join((f"{crop} px", transform["interpolation"], *colours))
