"""A speed measurement on the terminal: a model beside its bidirectional twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console, JustifyMethod

from illama_eval.render.format.escape import sanitize
from illama_eval.render.terminal.tables import add_row, fitting_table, plain_text
from illama_eval.results import Row, Run

MIB = 2**20
_COLUMNS: Mapping[str, JustifyMethod] = {
    "images": "right",
    "model": "left",
    "latency ms": "right",
    "10 to 90 %": "right",
    "images/s": "right",
    "peak MiB": "right",
}


def show_speed(run: Run, console: Console) -> None:
    """Print how fast the model is beside its twin, then latency and memory, and the counts."""
    name = sanitize(run.rows[0].subject)
    console.print(plain_text(f"{name} against its bidirectional twin", console, "bold"))
    batches = sorted({int(row.at["batch"]) for row in run.rows if "batch" in row.at})
    lines = [_cells(run, batch, model) for batch in batches for model in ("model", "twin")]
    spare = ("10 to 90 %", "peak MiB")
    table, kept = fitting_table(_COLUMNS, lines, console, spare=spare)
    for line in lines:
        add_row(table, [line[index] for index in kept], console)
    console.print(table)
    for sentence in _sentences(run, batches):
        console.print(plain_text(f"  {sentence}", console))
    console.print()


def _sentences(run: Run, batches: list[int]) -> Iterator[str]:
    """Yield how much the mask costs, and how many products it saves on paper."""
    ratios = " and ".join(
        f"{_scaled(run.value('speed', 'speed_ratio', batch=batch)):.2f} times ({batch} at once)"
        for batch in batches
    )
    if ratios:
        yield f"It is {ratios} as fast as its twin."
    dense, causal = (_scaled(run.value("speed", f"macs_{each}")) for each in ("dense", "causal"))
    yield (
        f"{dense / 1e9:.4f} GMACs dense, {causal / 1e9:.4f} by the paper's causal formula "
        f"({100 * (1 - causal / dense):.1f} % fewer)."
    )


def _cells(run: Run, batch: int, model: str) -> list[str]:
    """Return one line of the table."""
    latency, speed, memory = (
        run.value("speed", metric, batch=batch, model=model)
        for metric in ("latency", "images_per_second", "peak_memory")
    )
    return [
        str(batch),
        model,
        f"{_scaled(latency, 1e3):.2f}",
        f"{(latency.low or 0.0) * 1e3:.2f} to {(latency.high or 0.0) * 1e3:.2f}",
        f"{_scaled(speed):,.1f}",
        f"{_scaled(memory, 1 / MIB):,.0f}",
    ]


def _scaled(row: Row, factor: float = 1.0) -> float:
    return (row.value or 0.0) * factor
