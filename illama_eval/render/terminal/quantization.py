"""A quantization on the terminal: size, agreement and speed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console, JustifyMethod

from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import metric_label
from illama_eval.render.format.numbers import show_row
from illama_eval.render.tables.quantization import (
    COLUMNS,
    STUDY,
    Variant,
    caption,
    exact_line,
    quantized_line,
    variants_of,
)
from illama_eval.render.terminal.comparison import show_comparison
from illama_eval.render.terminal.tables import add_row, plain_table, plain_text
from illama_eval.results import Run

_PRINTED = (0, 1, 2, 3, 4, 5, 10)
"""Columns that fit a terminal, by their index in COLUMNS."""
_LAYERS_NAMED = 6
_LONGEST_NOTE = 300


def show_quantization(directory: Path, run: Run, console: Console) -> None:
    """Print one quantized model with all that changed, or several as a table."""
    variants = variants_of(directory, run)
    notes = list(describe_latency(directory))
    if len(variants) == 1:
        changes = [each for each in variants[0].compared.changes if each.study != "agreement"]
        show_comparison(replace(variants[0].compared, changes=tuple(changes)), console)
        notes = [*describe(variants[0]), *notes]
    else:
        first, *others = (COLUMNS[index] for index in _PRINTED)
        sides: dict[str, JustifyMethod] = {first: "left", **dict.fromkeys(others, "right")}
        lines = plain_table(sides, console, wrapped={first})
        for line in [exact_line(run, variants), *map(quantized_line, variants)]:
            cells = [line[0].rpartition("+")[2], *(line[index] for index in _PRINTED[1:])]
            add_row(lines, cells, console)
        console.print(plain_text(caption(variants), console, "bold"))
        console.print(lines)
    for note in notes:
        console.print(plain_text(f"  {sanitize(note, _LONGEST_NOTE)}", console))


def describe(variant: Variant) -> Iterator[str]:
    """Yield what was quantized, what was not, and where the bytes of the file are."""
    record = variant.described
    bits = sorted({f"{each['bits']} bits" for each in record["quantized"]})
    yield f"{record['label']}."
    agreed = {name: row for name, row in variant.rows.items() if STUDY[name] == "agreement"}
    words = [f"{metric_label(name)} {show_row(row).full}" for name, row in agreed.items() if row]
    yield f"agreement with the exact model: {', '.join(words)}"
    yield f"quantized: {len(record['quantized'])} layers, {', '.join(bits)}"
    reasons: dict[str, list[str]] = {}
    for name, reason in record["left"].items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        more = f" and {len(names) - _LAYERS_NAMED} more" if len(names) > _LAYERS_NAMED else ""
        yield f"left in float: {', '.join(names[:_LAYERS_NAMED])}{more} ({reason})"
    for name in record["not_smoothed"]:
        yield f"not smoothed: {name} (nothing before it takes the factors)"
    size = record["bytes"]
    parts = (
        f"{name.replace('_', ' ')} {size[name]:,}"
        for name in ("values", "scale", "zero", "float", "header")
    )
    share = size["total"] / size["full_precision"]
    yield f"file: {size['total']:,} bytes, {share:.3f} of fp32 ({', '.join(parts)})"


def describe_latency(directory: Path) -> Iterator[str]:
    """Yield the latencies that timing.json holds, in words."""
    path = directory / "timing.json"
    if not path.is_file():
        return
    rows = [row for row in Run.from_json(path.read_text("utf-8")).rows if row.study == "speed"]
    factors = {
        (row.subject, *row.at.values()): row.value for row in rows if row.metric == "speedup"
    }
    for row in rows:
        if row.metric == "latency" and row.value is None:
            yield f"{row.subject}: {row.reason}"
        elif row.metric == "latency" and row.value is not None:
            factor = factors.get((row.subject, *row.at.values())) or 0.0
            batch = int(row.at["batch"])
            yield (
                f"{row.subject}, batch {batch}, {row.at['mode']}: {row.value * 1e3:.2f} ms, "
                f"{batch / row.value:,.0f} images/s, {factor:.2f} x ({row.reason})"
            )
