"""Sensitivity to quantization on the terminal: the layers that move the answers most."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs
from rich.console import Console, JustifyMethod
from rich.table import Table

from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import heading
from illama_eval.render.format.numbers import align, show_images, show_row
from illama_eval.render.terminal.tables import add_row, plain_table, plain_text
from illama_eval.results import Row, Run

_COLUMNS: Mapping[str, JustifyMethod] = {
    "layer": "right",
    "kind": "left",
    "KL\n(millinats)": "right",
    "95 % interval": "left",
}
_MILLI = 1e3


def show_sensitivity(run: Run, console: Console, *, most: int | None = None) -> None:
    """Print the `most` layers of largest divergence, of None all, with their intervals."""
    found = [row for row in run.rows if row.metric == "kl" and row.value is not None]
    found.sort(key=lambda row: -(row.value or 0.0))
    schemes = ", ".join(dict.fromkeys(sanitize(row.at.get("scheme", "")) for row in found))
    if not found:
        return
    title = f"{heading(found)}: {show_images(found[0].images)}, one layer at a time in {schemes}"
    console.print(plain_text(title, console, "bold"))
    console.print(_table(found[:most], console))
    hidden = len(found[most:]) if most is not None else 0
    if hidden:
        console.print(
            plain_text(f"  layers that move the answers less: {hidden}; --all shows them", console)
        )
    console.print()


def _table(rows: list[Row], console: Console) -> Table:
    table = plain_table(_COLUMNS, console)
    shown = [show_row(_in_milli(row)) for row in rows]
    for row, each, value in zip(rows, shown, align([one.value for one in shown]), strict=True):
        layer, kind = (sanitize(row.at.get(key, "")) for key in ("layer", "kind"))
        add_row(table, (layer, kind, value, each.interval), console)
    return table


def _in_milli(row: Row) -> Row:
    """Return a row in nats as one in thousandths of them."""
    numbers = {name: getattr(row, name) for name in ("value", "low", "high")}
    return structs.replace(
        row, **{name: None if each is None else _MILLI * each for name, each in numbers.items()}
    )
