"""A speed measurement on the terminal: a model beside its bidirectional twin."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from illama_eval.render.format.escape import sanitize
from illama_eval.results import Row, Run

MIB = 2**20


def show_speed(run: Run, console: Console) -> None:
    """Print counts, then latency, images/s and memory of model and twin by batch size."""
    study = "speed"
    counts = {name: run.value(study, f"macs_{name}").value or 0.0 for name in ("dense", "causal")}
    share = 1 - counts["causal"] / counts["dense"]
    console.print(
        Text(
            f"{sanitize(run.rows[0].subject)}: {counts['dense'] / 1e9:.4f} GMACs dense, "
            f"{counts['causal'] / 1e9:.4f} with the paper's causal formula ({share:.1%} fewer)"
        )
    )
    table = Table(title="against the bidirectional twin", title_justify="left")
    columns = ("batch", "model", "latency ms (10-90 %)", "images/s", "peak MiB", "twin / model")
    for column in columns:
        table.add_column(column, justify="left" if column == "model" else "right")
    for batch in sorted({int(row.at["batch"]) for row in run.rows if "batch" in row.at}):
        for model in ("model", "twin"):
            table.add_row(*_cells(run, batch, model), end_section=model == "twin")
    console.print(table)


def _cells(run: Run, batch: int, model: str) -> list[str]:
    """Return one line of the table."""
    latency, speed, memory = (
        run.value("speed", metric, batch=batch, model=model)
        for metric in ("latency", "images_per_second", "peak_memory")
    )
    ratio = run.value("speed", "speed_ratio", batch=batch)
    return [
        str(batch),
        model,
        " ".join((f"{_scaled(latency, 1e3):.2f}", _range(latency, 1e3))),
        f"{_scaled(speed):.1f}",
        f"{_scaled(memory, 1 / MIB):,.0f}",
        f"{_scaled(ratio):.3f}" if model == "model" else "",
    ]


def _range(row: Row, factor: float) -> str:
    return f"({(row.low or 0.0) * factor:.2f}-{(row.high or 0.0) * factor:.2f})"


def _scaled(row: Row, factor: float = 1.0) -> float:
    return (row.value or 0.0) * factor
