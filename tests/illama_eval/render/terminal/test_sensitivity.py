"""Sensitivity on the terminal: a table of the layers that count most."""

from __future__ import annotations

from functools import partial

from illama_eval.render.terminal.sensitivity import show_sensitivity
from illama_eval.results import Row, Run


def row(layer: int, value: float) -> Row:
    return Row(
        subject="nano",
        source="demo",
        study="sensitivity",
        metric="kl",
        unit="nats",
        value=value,
        low=0.9 * value,
        high=1.2 * value,
        images=64,
        at={"layer": layer, "kind": "qkv", "scheme": "w4"},
    )


def test_the_most_sensitive_layers_come_first_and_the_others_are_counted(printed):
    run = Run(header={}, rows=tuple(row(layer, 1e-5 * layer) for layer in (1, 3, 2)))
    title, *lines = printed(partial(show_sensitivity, most=2), run).splitlines()
    assert title == "nano on demo: 64 images, one layer at a time in w4"
    shown = [line.split() for line in lines if "qkv" in line]
    assert shown == [
        ["3", "qkv", "0.0300", "0.0270", "to", "0.0360"],
        ["2", "qkv", "0.0200", "0.0180", "to", "0.0240"],
    ]
    assert "layers that move the answers less: 1; --all shows them" in lines[-2] + lines[-1]
