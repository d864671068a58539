"""`illama-eval list`: tables of studies, sources and model sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console, JustifyMethod

from illama.complexity import causal_macs, macs, parameters
from illama.config import SIZES, Config
from illama.sources import SOURCES
from illama_eval.render.terminal.tables import add_row, fitting_table, plain_table, plain_text
from illama_eval.studies import STUDIES

_SIZES: Mapping[str, JustifyMethod] = {
    "size": "left",
    **dict.fromkeys(
        ("input", "patch", "width", "depth", "heads", "parameters", "GMACs", "causal"), "right"
    ),
}

_SPARE = ("causal", "GMACs", "patch", "heads", "input")
"""Columns of sizes that a narrow terminal does without."""


def show_all(console: Console) -> None:
    """Print studies with their metrics, sources and model sizes."""
    _show_pairs("Studies", _studies(), console)
    _show_pairs("Sources, for --data", SOURCES.items(), console)
    console.print(plain_text("Sizes", console, "bold"))
    lines = list(_sizes())
    table, kept = fitting_table(_SIZES, lines, console, spare=_SPARE)
    for line in lines:
        add_row(table, [line[index] for index in kept], console)
    console.print(table)
    console.print()


def _show_pairs(title: str, pairs: Iterable[tuple[str, str]], console: Console) -> None:
    """Print names, and beside each what it is."""
    console.print(plain_text(title, console, "bold"))
    table = plain_table({"": "left", "text": "left"}, console, wrapped={"text"})
    table.show_header = False
    for name, text in pairs:
        add_row(table, (f"  {name}", text), console)
    console.print(table)
    console.print()


def _studies() -> Iterator[tuple[str, str]]:
    """Yield each study with what it measures, what it needs, and its metrics."""
    for name, study in STUDIES.items():
        summary = (study.__doc__ or "").strip().splitlines()[0]
        needed = f" Needs {', '.join(sorted(study.requires))}." if study.requires else ""
        yield name, summary + needed
        yield "", ", ".join(study.metrics)


def _sizes() -> Iterator[Sequence[str]]:
    """Yield the line of each size."""
    for name in SIZES:
        config = Config.at("soft-mask", name)
        yield (
            name,
            *(str(v) for v in (config.image_size, config.patch_size, config.width)),
            *(str(v) for v in (config.depth, config.heads)),
            f"{parameters(config):,}",
            *(f"{count(config) / 1e9:.3f}" for count in (macs, causal_macs)),
        )
