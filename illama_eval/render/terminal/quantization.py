"""A quantization on the terminal: size, agreement and speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from rich.console import Console, JustifyMethod

from illama_eval.compare.change import Change
from illama_eval.render.format.changes import show_change
from illama_eval.render.format.escape import LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import metric_label
from illama_eval.render.format.numbers import MISSING, show_images, show_number, show_row
from illama_eval.render.tables.quantization import (
    AGREEING,
    COLUMNS,
    MB,
    STUDY,
    Variant,
    caption,
    exact_line,
    quantized_line,
    variants_of,
)
from illama_eval.render.terminal.comparison import show_comparison
from illama_eval.render.terminal.tables import add_row, plain_table, plain_text
from illama_eval.results import Row, Run

_PRINTED = (0, 1, 2, 3, 4, 5, 10)
"""Columns that fit a terminal, by their index in COLUMNS."""
_LAYERS_NAMED = 6
_SIDES: Mapping[str, JustifyMethod] = {"": "left", "value": "right", "unit": "left", "note": "left"}

Line: TypeAlias = tuple[str, str, str, str]
"""Name, value, unit, and what there is to say of it."""


def show_quantization(
    directory: Path, run: Run, console: Console, *, everything: bool = False
) -> None:
    """Print one quantized model, or several as a table; `everything` adds all that changed."""
    variants = variants_of(directory, run)
    timed = _read_timing(directory)
    notes: list[str] = []
    if len(variants) > 1:
        _show_table(run, variants, console)
    else:
        _show_one(variants[0], timed, console)
    if everything and len(variants) == 1:
        changes = [each for each in variants[0].compared.changes if each.study not in AGREEING]
        compared = replace(variants[0].compared, changes=tuple(changes))
        show_comparison(compared, console, everything=True)
        notes = [*describe(variants[0]), *describe_latency(timed)]
    for note in notes:
        console.print(plain_text(f"  {sanitize(note, LONGEST_NOTE)}", console))


def _show_one(variant: Variant, timed: Sequence[Row], console: Console) -> None:
    """Print size, agreement and speed, then what it cost, and what is clearly worse."""
    compared = variant.compared
    source = f"{sanitize(compared.source)}: {show_images(compared.images)}"
    title = f"{sanitize(variant.name)} against {sanitize(compared.subjects[0])} on {source}"
    console.print(plain_text(title, console, "bold"))
    lines = plain_table(_SIDES, console, wrapped={"", "note"})
    lines.show_header = False
    for line in (*_size(variant), *_agreement(variant), *_speed(timed), *_cost(variant)):
        add_row(lines, (f"  {line[0]}", *line[1:]), console)
    console.print(lines)
    console.print(plain_text(f"  {_clearly_worse(compared.changes)}", console))
    console.print()


def _size(variant: Variant) -> Iterator[Line]:
    size = variant.described["bytes"]
    share = size["total"] / size["full_precision"]
    stored = variant.described.get("stored", True)
    what, note = ("file", "") if stored else ("size", ", no file is written")
    yield what, f"{size['total'] / MB:.3f}", "MB", f"{show_number(100 * share)} % of fp32{note}"
    if not stored:
        covered = f"of the weights, {len(variant.described['quantized'])} linear layers"
        yield "quantized", show_number(100 * variant.described["share"]), "%", covered


def _agreement(variant: Variant) -> Iterator[Line]:
    for metric in ("flips", "feature_sqnr"):
        row = variant.rows[metric]
        if row is not None:
            shown = show_row(row)
            yield metric_label(metric), shown.value, shown.unit, shown.interval


def _speed(timed: Sequence[Row]) -> Iterator[Line]:
    """Yield how much faster it is than the exact model, the largest batch of each mode."""
    factors = {
        (row.at["mode"], int(row.at["batch"])): row for row in timed if row.metric == "speedup"
    }
    untimed = [
        ", ".join([*(str(row.at[key]) for key in row.at if key == "mode"), row.reason])
        for row in timed
        if row.metric == "latency" and row.value is None
    ]
    for mode in dict.fromkeys(mode for mode, _ in factors):
        batch = max(size for each, size in factors if each == mode)
        value = factors[mode, batch].value or 0.0
        yield "speed", f"{value:.2f}", "x", f"of the exact model's, {mode}, {batch} at once"
    for reason in dict.fromkeys(untimed):
        yield "speed", MISSING, "", sanitize(reason, LONGEST_NOTE)


def _cost(variant: Variant) -> Iterator[Line]:
    """Yield accuracy and calibration error, each with its change."""
    changes = {each.metric: each for each in variant.compared.changes if not each.at}
    for metric in ("top1", "ece"):
        change, row = changes.get(metric), variant.rows[metric]
        if change is not None and row is not None:
            after, moved = show_row(row), show_change(change)
            interval = "" if moved.interval == MISSING else f" ({moved.interval})"
            note = f"{moved.difference} {moved.unit}{interval}"
            yield metric_label(metric), after.value, after.unit, note


def _clearly_worse(changes: Sequence[Change]) -> str:
    """Return in one sentence what quantization clearly made worse."""
    known = [each for each in changes if each.in_family and each.study not in AGREEING]
    worse = [metric_label(each.metric) for each in known if each.finding == "worse"]
    if worse:
        return f"Clearly worse than before: {', '.join(worse)}."
    return "Nothing that was measured is clearly worse than before."


def _show_table(run: Run, variants: Sequence[Variant], console: Console) -> None:
    """Print a line for each quantized model, below the exact one."""
    first, *others = (COLUMNS[index] for index in _PRINTED)
    sides: dict[str, JustifyMethod] = {first: "left", **dict.fromkeys(others, "right")}
    lines = plain_table(sides, console, wrapped={first})
    for line in [exact_line(run, variants), *map(quantized_line, variants)]:
        cells = [line[0].rpartition("+")[2], *(line[index] for index in _PRINTED[1:])]
        add_row(lines, cells, console)
    console.print(plain_text(caption(variants), console, "bold"))
    console.print(lines)


def describe(variant: Variant) -> Iterator[str]:
    """Yield what was quantized, what was not, and where the bytes of the file are."""
    record = variant.described
    bits = sorted({f"{each['bits']} bits" for each in record["quantized"]})
    yield f"{record['label']}."
    agreed = {name: row for name, row in variant.rows.items() if STUDY[name] in AGREEING}
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
    what = "file" if record.get("stored", True) else "size"
    yield f"{what}: {size['total']:,} bytes, {share:.3f} of fp32 ({', '.join(parts)})"


def _read_timing(directory: Path) -> list[Row]:
    """Return the rows of timing.json that are about speed."""
    path = directory / "timing.json"
    if not path.is_file():
        return []
    return [row for row in Run.from_json(path.read_text("utf-8")).rows if row.study == "speed"]


def describe_latency(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the latencies in words."""
    factors = {
        (row.subject, *row.at.values()): row.value for row in rows if row.metric == "speedup"
    }
    for row in rows:
        if row.metric == "latency" and row.value is None:
            yield f"{row.subject}{_setting(row)}: {row.reason}"
        elif row.metric == "latency" and row.value is not None:
            factor = factors.get((row.subject, *row.at.values())) or 0.0
            yield (
                f"{row.subject}{_setting(row)}: {row.value * 1e3:.2f} ms, "
                f"{int(row.at['batch']) / row.value:,.0f} images/s, {factor:.2f} x ({row.reason})"
            )


def _setting(row: Row) -> str:
    return f", batch {row.at['batch']}, {row.at['mode']}" if row.at else ""
