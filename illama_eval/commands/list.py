"""`illama-eval list`: tables of studies, sources and model sizes."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from illama.complexity import causal_macs, macs, parameters
from illama.config import SIZES, Config
from illama.sources import SOURCES
from illama_eval.studies import STUDIES


def show_all(console: Console) -> None:
    """Print studies, sources and model sizes."""
    for table in (_studies(), _sources(), _sizes()):
        console.print(table)
        console.print()


def _studies() -> Table:
    table = _table("Studies", "study", "measures", "needs", "metrics")
    for name, study in STUDIES.items():
        summary = (study.__doc__ or "").strip().splitlines()[0]
        needed = ", ".join(sorted(study.requires)) or "images alone"
        table.add_row(name, summary, needed, ", ".join(study.metrics))
    return table


def _sources() -> Table:
    table = _table("Sources", "--data", "images")
    for name, text in SOURCES.items():
        table.add_row(name, Text(text))  # Text: brackets in it are not markup
    return table


def _sizes() -> Table:
    table = _table("Sizes", "size")
    for name in ("input", "patch", "width", "depth", "heads", "parameters", "GMACs", "causal"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in SIZES:
        config = Config.at("soft-mask", name)
        table.add_row(
            name,
            *(str(v) for v in (config.image_size, config.patch_size, config.width)),
            *(str(v) for v in (config.depth, config.heads)),
            f"{parameters(config):,}",
            *(f"{count(config) / 1e9:.3f}" for count in (macs, causal_macs)),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
